//! What programs of the user are given: arguments and variables.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

#[test]
fn values_of_a_matrix_are_arguments() {
    let project = Project::empty();
    project.write(
        "p.toml",
        "name = \"p\"\n[steps.own]\nstage = \"command\"\nmatrix = { lr = [1.0, 1e-4], r = [8], deep = [true] }\n\
         run = [\"sh\", \"-c\", \"echo $@ > {out}/o/x\", \"own\", \"--lr\", \"${lr}\", \"${r}\", \"${deep}\"]\noutputs = { o = \"files\" }\n",
    );
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for (step, wanted) in
        [("own[lr=1.0,r=8,deep=true]", "--lr 1.0 8 true\n"), ("own[lr=0.0001,r=8,deep=true]", "--lr 0.0001 8 true\n")]
    {
        let exported = project.pipe(&["export", "p.toml", step, step]);
        assert_eq!(exported.code, 0, "{}", exported.stderr);
        assert_eq!(std::fs::read_to_string(project.path(step).join("x")).unwrap(), wanted);
    }
}

/// Nobody else writes this.
const SECRET: &str = "sk-0123456789abcdefSECRET";

/// A `command` and a `map` that are passed a variable, and print it wherever they can.
const PASSED: &str = r#"name = "p"

[steps.rows]
stage = "download"
source = "rows.jsonl"

[steps.command]
stage = "command"
run = ["sh", "command.sh", "{out}/o/x"]
envvars = ["JUDGE_KEY", "HOME_OF_TEST"]
outputs = { o = "files" }

[steps.map]
stage = "map"
inputs = { rows = "rows" }
run = ["sh", "map.sh"]
writes = { n = "int" }
envvars = ["JUDGE_KEY", "HOME_OF_TEST"]
"#;

const COMMAND: &str =
    "echo key $JUDGE_KEY; echo $JUDGE_KEY >&2; printf %s \"$JUDGE_KEY\" | wc -c > $1; test ! -e $HOME_OF_TEST/fail\n";

const MAP: &str = r#"while read -r line; do
    echo $JUDGE_KEY >&2
    case $line in
        *bad*) echo "{\"fail\":\"refused $JUDGE_KEY\"}" ;;
        *) echo '{"n":1}' ;;
    esac
done
test ! -e $HOME_OF_TEST/fail
"#;

fn passed() -> Project {
    let project = Project::empty();
    project.write("p.toml", PASSED);
    project.write("command.sh", COMMAND);
    project.write("map.sh", MAP);
    project.write("rows.jsonl", "{\"id\": \"a\"}\n{\"id\": \"bad\"}\n");
    project
}

fn run_with(project: &Project, key: &str, args: &[&str]) -> pipe_tests::Outcome {
    let mut command = project.command(args);
    command.env("JUDGE_KEY", key).env("HOME_OF_TEST", project.path("."));
    project.finish(command.spawn().unwrap())
}

/// Files of the project that hold the secret.
fn holding(project: &Project) -> Vec<std::path::PathBuf> {
    let entries = walkdir::WalkDir::new(project.path(".")).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    let holds = |path: &std::path::PathBuf| {
        std::fs::read(path).unwrap().windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes())
    };
    files.filter(holds).collect()
}

#[test]
fn a_secret_reaches_the_program_and_nothing_else() {
    let project = passed();
    let run = run_with(&project, SECRET, &["run", "--json", "p.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(project.pipe(&["export", "p.toml", "command", "out"]).code, 0);
    assert_eq!(std::fs::read_to_string(project.path("out/x")).unwrap(), format!("{}\n", SECRET.len()));
    let recipe = project.pipe(&["show", "p.toml", "command"]).stdout;
    assert!(recipe.contains("JUDGE_KEY"), "{recipe}");
    let logs: Vec<String> = std::fs::read_dir(project.path(".pipe/runs"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(logs.iter().any(|log| log.contains("key ***\n***\n")), "{logs:?}");
    let left_out = project.pipe(&["show", "p.toml", "map", "--left-out"]).stdout;
    assert!(left_out.contains("refused ***"), "{left_out}");
    // Another value is the same work.
    let again = run_with(&project, "another key", &["run", "p.toml"]);
    assert!(again.code == 0 && again.stderr.contains("0 executed"), "{}", again.stderr);
    // Nor does a failure show it.
    project.write("fail", "");
    project.write("command.sh", COMMAND.replace("key", "again"));
    project.write("map.sh", format!("{MAP}echo ends $JUDGE_KEY >&2; exit 3\n"));
    let failed = run_with(&project, SECRET, &["run", "--json", "--keep-going", "p.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    let said = [&failed, &run].map(|outcome| outcome.stdout.clone() + &outcome.stderr).concat();
    assert!(said.contains("again ***") && said.contains("ends ***") && !said.contains(SECRET), "{said}");
    assert_eq!(holding(&project), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_variable_that_is_not_set_is_missed_before_the_run() {
    let project = passed();
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    insta::assert_snapshot!("variable_not_set", run.stderr);
    project.write(
        "p.toml",
        PASSED.replace("envvars = [\"JUDGE_KEY\",", "env = { JUDGE_KEY = \"x\" }\nenvvars = [\"JUDGE_KEY\","),
    );
    insta::assert_snapshot!("variable_set_and_passed", project.pipe(&["check", "p.toml"]).stderr);
}

#[test]
fn programs_find_their_libraries_devices_and_network() {
    let project = Project::empty();
    project.write(
        "p.toml",
        "name = \"p\"\n[steps.own]\nstage = \"command\"\nrun = [\"sh\", \"-c\", \"echo $CUDA_VISIBLE_DEVICES $https_proxy $OTHER > {out}/o/x\"]\noutputs = { o = \"files\" }\n",
    );
    let mut command = project.command(&["run", "p.toml"]);
    command.env("CUDA_VISIBLE_DEVICES", "1").env("https_proxy", "http://proxy.example").env("OTHER", "other");
    let run = project.finish(command.spawn().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(project.pipe(&["export", "p.toml", "own", "out"]).code, 0);
    assert_eq!(std::fs::read_to_string(project.path("out/x")).unwrap(), "1 http://proxy.example\n");
}
