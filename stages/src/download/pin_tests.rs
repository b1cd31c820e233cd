//! Tests of places that may change: planned without a network, asked once, kept to afterwards.

use pipe_engine::stage::Moving;
use serde_json::json;

use super::remote_tests::{COMMIT, Reply, Server, TINY, hub, hub_scene, ranged, sha256};
use super::tests::Scene;

#[test]
fn a_branch_is_asked_for_its_commit_once() {
    let server = hub(TINY, "");
    let mut scene = hub_scene(&server);
    let params = json!({ "source": "hf://org/tiny@refs/pr/7" });
    let planned = scene.resolve(&params).unwrap();
    let moving = |is_pinned| Some(Moving { source: "hf://org/tiny@refs/pr/7".into(), is_pinned });
    assert_eq!((planned.pin.as_str(), planned.moving), ("model", moving(false)));
    assert_eq!((scene.declare(&params).unwrap().outputs[0].kind.as_str(), server.seen().len()), ("model/1", 0));
    let asked = scene.ask(&params).unwrap();
    assert_eq!((asked.pin.clone(), asked.moving), (format!("hf://org/tiny@{COMMIT} model"), moving(true)));
    assert_eq!(server.seen().len(), 1);
    scene.pins.insert("hf://org/tiny@refs/pr/7".into(), asked.pin.clone());
    assert_eq!(scene.resolve(&params).unwrap().pin, asked.pin);
    assert_eq!(scene.ask(&params).unwrap().pin, asked.pin);
    assert_eq!(server.seen().len(), 1, "what is pinned is not asked for");
    assert_eq!(scene.run(&params).unwrap().files["model.safetensors"], b"weights");
}

#[test]
fn an_address_is_pinned_to_the_file_it_gave() {
    let server =
        Server::new(|count, request| ranged(request, if count == 0 { b"id,n\na,1\n" } else { b"id,n\nb,2\n" }));
    let mut scene = Scene::new(&[]);
    let source = format!("{}/x.csv?key=SECRET", server.origin);
    let params = json!({ "source": source, "id": "id", "columns": { "n": "int" } });
    let asked = scene.ask(&params).unwrap();
    assert_eq!(asked.pin, format!("sha256:{} x.csv csv", sha256(b"id,n\na,1\n")));
    let place = asked.moving.clone().unwrap().source;
    assert!(place.starts_with(&format!("{}/x.csv?", server.origin)) && !place.contains("SECRET"), "{place}");
    assert_eq!(scene.execute(&params, &asked).unwrap().ids(), ["a"]);
    assert_eq!(server.seen().len(), 1, "what was fetched to be asked is not fetched again");
    scene.pins.insert(place, asked.pin);
    let failure = scene.run(&params).err().unwrap();
    assert!(failure.message.contains("has SHA-256") && failure.help.unwrap().contains("--refresh"));
}

#[test]
fn what_is_not_known_yet_is_never_pieced_together() {
    let server = Server::new(|count, request| match (request.path.as_str(), count) {
        ("/endless.csv", _) => Reply { endless: true, ..Reply::new(200, "id\n") },
        (_, 0) => Reply { cut: Some(3), ..ranged(request, b"id\nold\n") },
        _ => ranged(request, b"id\nnew\n"),
    });
    let scene = Scene::new(&[]);
    let ask = |name: &str| {
        scene.ask(&json!({ "source": format!("{}/{name}", server.origin), "id": "id", "columns": { "n": "int" } }))
    };
    assert_eq!(ask("rows.csv").unwrap().pin, format!("sha256:{} rows.csv csv", sha256(b"id\nnew\n")));
    assert!(server.seen().iter().all(|request| !request.headers.contains_key("range")));
    assert!(ask("endless.csv").unwrap_err().message.ends_with("the server does not say where the file ends"));
}

#[test]
fn a_pin_that_is_none_is_a_mistake() {
    let mut scene = Scene::new(&[]);
    for (source, pin) in
        [("hf://org/tiny@main", "hf://org/tiny@dev model"), ("https://h.example/x.csv", "sha256:12 x.csv csv")]
    {
        scene.pins.insert(source.into(), pin.into());
        let wrong = scene.problem(&json!({ "source": source, "columns": { "n": "int" }, "format": "csv" }));
        assert!(wrong.contains("which is no state of it"), "{wrong}");
    }
}
