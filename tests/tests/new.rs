//! New pipelines work as they are written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

#[test]
fn every_template_passes_its_check() {
    let project = Project::empty();
    for template in ["captions", "finetune", "text"] {
        let new = project.pipe(&["new", &format!("my-{template}"), "--template", template]);
        assert_eq!(new.code, 0, "{}", new.stderr);
        let check = project.pipe(&["check", &format!("my-{template}/my-{template}.toml")]);
        assert_eq!(check.code, 0, "{template}: {}", check.stderr);
        assert!(check.stdout.ends_with("nothing wrong\n") && !check.stdout.contains("note:"), "{}", check.stdout);
    }
}

#[test]
fn what_needs_no_model_runs() {
    let project = Project::empty();
    for (template, steps) in [("text", vec![]), ("captions", vec!["resized"]), ("finetune", vec!["parts"])] {
        assert_eq!(project.pipe(&["new", template, "--template", template]).code, 0);
        let spec = format!("{template}/{template}.toml");
        let args: Vec<&str> = ["run", spec.as_str()].into_iter().chain(steps).collect();
        let run = project.pipe(&args);
        assert_eq!(run.code, 0, "{template}: {}", run.stderr);
    }
}

#[test]
fn nothing_is_overwritten() {
    let project = Project::empty();
    project.write("mine/notes.txt", "x");
    let full = project.pipe(&["new", "mine"]);
    let odd = project.pipe(&["new", "a b"]);
    assert_eq!((full.code, odd.code), (1, 2));
    let new = project.pipe(&["new", "words"]);
    let readme = std::fs::read_to_string(project.path("words/README.md")).unwrap();
    let big = project.pipe(&["new", "pictures", "--template", "captions"]);
    insta::assert_snapshot!("new", [full.stderr, odd.stderr, new.stdout, readme, big.stdout].concat());
}

#[test]
fn shells_complete_the_commands() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Project::empty().pipe(&["completions", shell]);
        assert_eq!(script.code, 0, "{}", script.stderr);
        assert!(script.stdout.contains("PIPE_COMPLETE"), "{shell}");
    }
}

/// What the shell is told to complete the last of these words to.
fn completed(project: &Project, words: &[&str]) -> Vec<String> {
    let mut command = project.command(&[&["--", "pipe"], words].concat());
    let index = words.len().to_string();
    command.env("PIPE_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", index).env("_CLAP_IFS", "\n");
    let answer = project.finish(command.spawn().unwrap());
    assert_eq!(answer.code, 0, "{}", answer.stderr);
    answer.stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn names_of_a_pipeline_are_completed() {
    let project = Project::small();
    let matrix = "[profiles.large]\nsize = 16\n\n[steps.made]\nstage = \"resize\"\ninputs = { images = \"clean\" }\nmatrix = { s = [4, 8] }\nsize = \"${s}\"\n";
    project.write("p.toml", pipe_tests::SMALL.to_owned() + "\n" + matrix);
    let of = |words: &[&str]| completed(&project, words);
    assert_eq!(of(&["run", "p.toml", "t"]), ["thumbnails", "texts"]);
    assert_eq!(of(&["show", "p.toml", "made["]), ["made[s=4]", "made[s=8]"]);
    assert_eq!(of(&["run", "p.toml", "--force", "c"]), ["clean"]);
    assert_eq!(of(&["plan", "p.toml", "--profile", ""]), ["large"]);
    assert_eq!(of(&["plan", "p.toml", "--set", "s"]), ["size="]);
    let commands = of(&[""]);
    assert!(commands.contains(&"explain".to_owned()) && !commands.contains(&"guard".to_owned()), "{commands:?}");
    assert!(of(&["run", "p"]).contains(&"p.toml".to_owned()));
}
