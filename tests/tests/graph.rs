//! Pictures of pipelines, as programs that draw them read them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

fn drawn(project: &Project, args: &[&str]) -> String {
    let args: Vec<&str> = ["graph"].iter().chain(args).copied().collect();
    let outcome = project.pipe(&args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    outcome.stdout
}

#[test]
fn graphviz_and_mermaid() {
    let project = Project::small();
    let _ = project.run(&["p.toml", "parts"]);
    insta::assert_snapshot!("dot", drawn(&project, &["p.toml"]));
    insta::assert_snapshot!("mermaid", drawn(&project, &["p.toml", "--format", "mermaid"]));
}

#[test]
fn svg_shows_every_step_and_arrow_of_a_shipped_pipeline() {
    let project = Project::shipped();
    assert_eq!(drawn(&project, &["phase6_2.toml", "--profile", "smoke", "-o", "g.svg"]), "");
    let svg = std::fs::read_to_string(project.path("g.svg")).unwrap();
    let graph: serde_json::Value =
        serde_json::from_str(&drawn(&project, &["phase6_2.toml", "--profile", "smoke", "--json"])).unwrap();
    for node in graph["nodes"].as_array().unwrap() {
        assert!(svg.contains(&format!(">{}</text>", node["name"].as_str().unwrap())), "{node}");
    }
    let arrows = svg.matches("marker-end").count();
    assert_eq!(arrows, graph["edges"].as_array().unwrap().len());
}
