//! What users type wrong, and what they leave empty.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

const SPEC: &str = r#"name = "p"

[params]
size = 3
label = "x"
on = true
list = [1]
table = { a = 1 }

[steps.texts]
stage = "download"
source = "t.jsonl"

[steps.kept]
stage = "filter"
inputs = { rows = "texts" }
keep = "size(caption) >= ${size} && caption != '${label}' || ${on}"
"#;

fn project() -> Project {
    let project = Project::empty();
    project.write("p.toml", SPEC);
    project.write("t.jsonl", "{\"id\": \"a\", \"caption\": \"hello\", \"n\": 1.5, \"none\": null}\n");
    project
}

#[test]
fn values_of_parameters() {
    let project = project();
    for good in ["size=4", "size=\"4\"", "label=", "label=a \"b", "label=nan", "on=false", "list=[]", " size =4"] {
        let checked = project.pipe(&["check", "p.toml", "--set", good]);
        assert_eq!(checked.code, 0, "{good}: {}", checked.stderr);
    }
    let mut told = String::new();
    for wrong in ["size", "=3", "a.b=3", "table.a=2", "size=", "size=nan", "size=\"4", "on=yes", "list=[1", "sise=3"] {
        let checked = project.pipe(&["check", "p.toml", "--set", wrong]);
        assert_eq!(checked.code, 2, "{wrong}: {}", checked.stdout);
        told.push_str(&format!("--set {wrong}\n{}\n", checked.stderr));
    }
    insta::assert_snapshot!("set", told);
}

#[test]
fn numbers_of_threads() {
    let project = project();
    for wrong in ["0", "1025", "-1", "many"] {
        let run = project.pipe(&["run", "p.toml", "--threads", wrong]);
        assert_eq!(run.code, 2);
        let expected =
            format!("invalid value '{wrong}' for '--threads <N>': expected a number from 1 to 1024; this machine has");
        assert!(run.stderr.contains(&expected), "{}", run.stderr);
    }
}

#[test]
fn an_empty_variable_is_as_none() {
    let project = project();
    let run =
        |store: &str| project.finish(project.command(&["run", "p.toml"]).env("PIPE_STORE", store).spawn().unwrap());
    assert_eq!(run("").code, 0);
    assert!(project.path(".pipe/format").is_file());
    assert_eq!(run("other").code, 0);
    assert!(project.path("other/format").is_file());
    let log = project.finish(project.command(&["log"]).env("PIPE_STORE", "").spawn().unwrap());
    assert_eq!(log.code, 0, "{}", log.stderr);
    assert_eq!(project.pipe(&["check", "p.toml", "--store", ""]).code, 2);
    let file = project.pipe(&["check", "p.toml", "--store", "t.jsonl"]);
    assert_eq!(
        (file.code, file.stderr.as_str()),
        (4, "error: the store t.jsonl is a file\n  = help: name a directory with --store\n")
    );
}

#[test]
fn files_that_are_not_there_or_something_else() {
    let project = project();
    project.write("full/x", "");
    let told = |args: &[&str]| project.pipe(args).stderr;
    let _ = project.run(&["p.toml"]);
    insta::assert_snapshot!(
        "files",
        [
            told(&["check", "q.toml"]),
            told(&["check", "."]),
            told(&["check", "full"]),
            told(&["graph", "p.toml", "-o", "p.png"]),
            told(&["export", "p.toml", "kept", "t.jsonl"]),
            told(&["export", "p.toml", "kept", "full"]),
            told(&["new", "full"]),
        ]
        .concat()
    );
}

#[test]
fn a_program_is_shown_values() {
    let project = project();
    let _ = project.run(&["p.toml"]);
    let shown = project.pipe(&["show", "p.toml", "kept", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let output = &value["outputs"][0];
    assert_eq!(output["columns"], serde_json::json!({ "caption": "text", "n": "float", "none": "text" }));
    assert_eq!(output["first"], serde_json::json!([{ "id": "a", "caption": "hello", "n": 1.5, "none": null }]));
    let photos = Project::small();
    let _ = photos.run(&["p.toml"]);
    let shown = photos.pipe(&["show", "p.toml", "thumbnails", "--row", "scene-0001.png", "--json"]);
    let row: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let image = &row["row"]["image"];
    let start = image["offset"].as_u64().unwrap() as usize;
    let end = start + image["bytes"].as_u64().unwrap() as usize;
    let path = image["path"].as_str().unwrap().replace("DIR", photos.path("").to_str().unwrap());
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{image}: {error}"));
    assert!(bytes[start..end].starts_with(b"\x89PNG") && image["digest"].as_str().unwrap().len() == 64, "{image}");
}

#[test]
fn an_image_that_cannot_be_read_costs_its_row() {
    let project = Project::small();
    std::os::unix::fs::symlink("/nonexistent", project.path("photos/gone.png")).unwrap();
    project.write("i.toml", "name = \"i\"\n[steps.photos]\nstage = \"download\"\nsource = \"photos\"\n");
    let run = project.pipe(&["run", "i.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let left = project.pipe(&["show", "i.toml", "photos", "--left-out"]);
    insta::assert_snapshot!("unreadable", [project.pipe(&["check", "i.toml"]).stdout, left.stdout].concat());
    // Readable again, it is a row.
    std::fs::remove_file(project.path("photos/gone.png")).unwrap();
    std::fs::copy(project.path("photos/scene-0001.png"), project.path("photos/gone.png")).unwrap();
    let again = project.pipe(&["run", "i.toml"]);
    assert!(again.stderr.contains("7 rows") && !again.stderr.contains("FAILED"), "{}", again.stderr);
    std::os::unix::fs::symlink("/nonexistent", project.path("none.png")).unwrap();
    project.write("only/x.txt", "");
    std::fs::rename(project.path("none.png"), project.path("only/none.png")).unwrap();
    project.write(
        "n.toml",
        "name = \"n\"\n[steps.photos]\nstage = \"download\"\nsource = \"only\"\nformat = \"images\"\n",
    );
    let none = project.pipe(&["check", "n.toml"]);
    assert!(none.code == 3 && none.stderr.contains("none of 1 images can be read; none.png: "), "{}", none.stderr);
}

#[test]
fn an_interrupted_run_says_what_it_waits_for() {
    let project = project();
    project
        .write("slow.py", "import sys, time\nfor line in sys.stdin:\n    time.sleep(3)\n    print('{}', flush=True)\n");
    let begun = project.path("begun");
    let spec = format!(
        "{SPEC}\n[steps.slow]\nstage = \"command\"\ninputs = {{ kept = \"kept\" }}\nrun = [\"sh\", \"-c\", \"trap '' TERM INT; touch {}; sleep 3\"]\noutputs = {{ out = \"files\" }}\n",
        begun.display()
    );
    project.write("p.toml", spec);
    let child = project.start(&["run", "p.toml"]);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !begun.exists() && std::time::Instant::now() < patience {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let run = project.finish(child);
    assert_eq!(run.code, 130, "{}", run.stderr);
    assert!(
        run.stderr.contains("stopping: waits for what slow is at, to keep it; Ctrl-C again ends at once"),
        "{}",
        run.stderr
    );
}

#[test]
fn several_pipelines_are_checked_at_once() {
    let project = project();
    project.write("q.toml", SPEC.replace("stage = \"filter\"", "stage = \"fitler\""));
    project.write("r.toml", SPEC);
    let checked = project.pipe(&["check", "p.toml", "q.toml", "r.toml", "none.toml"]);
    assert_eq!(checked.code, 3);
    assert_eq!(checked.stdout, "p.toml: 2 steps, nothing wrong\nr.toml: 2 steps, nothing wrong\n");
    assert!(checked.stderr.contains("did you mean `filter`?") && checked.stderr.contains("none.toml"));
    let json: serde_json::Value =
        serde_json::from_str(&project.pipe(&["check", "p.toml", "q.toml", "--json"]).stdout).unwrap();
    let all = &json["pipelines"];
    assert_eq!((&all[0]["spec"], &all[0]["steps"]), (&"p.toml".into(), &2.into()));
    assert_eq!((&all[1]["spec"], &all[1]["error"]["problems"][0]["line"]), (&"q.toml".into(), &15.into()));
    assert_eq!(project.pipe(&["check", "p.toml", "r.toml"]).code, 0);
}
