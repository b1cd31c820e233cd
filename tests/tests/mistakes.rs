//! Every mistake in a pipeline gets an answer with its place, what was expected and the nearest name, before anything runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use pipe_tests::Project;

/// A correct pipeline; each test breaks one thing.
const GOOD: &str = r#"name = "p"

[params]
size = 8

[profiles.small]
size = 4

[steps.photos]
stage = "download"
source = "photos"

[steps.texts]
stage = "download"
source = "texts.jsonl"
id = "id"

[steps.parts]
stage = "split"
inputs = { rows = "texts" }
parts = { train = 0.5, test = 0.5 }

[steps.thumbnails]
stage = "resize"
inputs = { images = "photos" }
size = "${size}"
"#;

fn project(spec: &str) -> Project {
    let project = Project::empty();
    project.write("p.toml", spec);
    project.write("texts.jsonl", "{\"id\": \"a\", \"caption\": \"x\"}\n{\"id\": \"b\", \"caption\": \"y\"}\n");
    // A PNG of one pixel.
    let png = [
        0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, 0x49, 0x48, 0x44, 0x52, 0, 0, 0, 1, 0, 0, 0, 1,
        8, 2, 0, 0, 0, 0x90, 0x77, 0x53, 0xde, 0, 0, 0, 0x0c, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8, 0xcf,
        0xc0, 0, 0, 3, 1, 1, 0, 0xc9, 0xfe, 0x92, 0xef, 0, 0, 0, 0, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
    ];
    project.write("photos/a.png", png);
    project
}

/// What `pipe check` says to the pipeline with `from` replaced by `to`. Nothing may be executed or recorded.
fn complaint(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good pipeline has no {from:?}");
    let project = project(&GOOD.replacen(from, to, 1));
    let checked = project.pipe(&["check", "p.toml"]);
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!((checked.code, run.code), (3, 3), "{}", checked.stderr);
    assert_eq!(checked.stderr, run.stderr);
    checked.stderr
}

#[test]
fn the_good_pipeline_is_good() {
    let checked = project(GOOD).pipe(&["check", "p.toml"]);
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "p.toml: 4 steps, nothing wrong\n"), "{}", checked.stderr);
}

macro_rules! mistakes {
    ($($name:ident: $from:expr => $to:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(stringify!($name), complaint($from, $to));
        }
    )*};
}

mistakes! {
    unknown_stage: "stage = \"resize\"" => "stage = \"resise\"";
    unknown_parameter: "size = \"${size}\"" => "sise = 8\nsize = 8";
    missing_parameter: "size = \"${size}\"" => "";
    unknown_step: "inputs = { images = \"photos\" }" => "inputs = { images = \"photo\" }";
    unknown_input: "inputs = { images = \"photos\" }" => "inputs = { image = \"photos\" }";
    missing_input: "inputs = { images = \"photos\" }" => "";
    several_outputs: "inputs = { images = \"photos\" }" => "inputs = { images = \"parts\" }";
    unknown_output: "inputs = { images = \"photos\" }" => "inputs = { images = \"parts.trian\" }";
    wrong_kind: "[steps.texts]" => "[steps.model]\nstage = \"download\"\nsource = \"photos\"\nformat = \"files\"\n\n[steps.wrong]\nstage = \"dedup\"\ninputs = { rows = \"model\" }\nby = [\"image\"]\n\n[steps.texts]";
    image_step_fed_text: "inputs = { images = \"photos\" }" => "inputs = { images = \"texts\" }";
    missing_column: "[steps.thumbnails]" => "[steps.unique]\nstage = \"dedup\"\ninputs = { rows = \"texts\" }\nby = [\"captoin\"]\n\n[steps.thumbnails]";
    cycle: "[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts\" }" => "[steps.loop]\nstage = \"dedup\"\ninputs = { rows = \"parts.train\" }\nby = [\"caption\"]\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"loop\" }";
    out_of_range: "size = \"${size}\"" => "size = 0";
    wrong_type: "parts = { train = 0.5, test = 0.5 }" => "parts = 0.5";
    unknown_choice: "size = \"${size}\"" => "size = 8\nfit = \"pat\"";
    unreadable_source: "source = \"photos\"" => "source = \"fotos\"";
    unknown_reference: "size = \"${size}\"" => "size = \"${sise}\"";
    unknown_name: "[params]" => "[parms]";
    not_toml: "name = \"p\"" => "name = \"p";
    several_at_once: "stage = \"split\"" => "stage = \"spilt\"\nwhat = 1";
    matrix_without_values: "size = \"${size}\"" => "matrix = { x = [] }\nsize = 8";
    matrix_of_lists: "size = \"${size}\"" => "matrix = { x = [4, [8]] }\nsize = \"${x}\"";
    matrix_value_twice: "size = \"${size}\"" => "matrix = { x = [4, 8, 4.0] }\nsize = \"${x}\"";
    matrix_variable_unused: "size = \"${size}\"" => "matrix = { x = [4, 8] }\nsize = 8";
    matrix_variable_misnamed: "size = \"${size}\"" => "matrix = { 2x = [4, 8] }\nsize = 8";
    matrix_wrong_in_every_step: "size = \"${size}\"" => "matrix = { x = [4, 8] }\nsize = \"${x}\"\nfit = \"pat\"";
    matrix_too_large: "parts = { train = 0.5, test = 0.5 }" => "matrix = { a = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.55, 0.65] }\nreplicates = 1000\nparts = { train = \"${a}\", test = 0.5 }";
    matrix_fed_whole: "id = \"id\"" => "matrix = { key = [\"id\", \"caption\"] }\nid = \"${key}\"";
    matrix_on_a_port_for_one: "id = \"id\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts\" }" => "matrix = { key = [\"id\", \"caption\"] }\nid = \"${key}\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts[*]\" }";
    matrix_value_unknown: "id = \"id\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts\" }" => "matrix = { key = [\"id\", \"caption\"] }\nid = \"${key}\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts[key=i]\" }";
    matrix_variable_unknown: "id = \"id\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts\" }" => "matrix = { key = [\"id\", \"caption\"] }\nid = \"${key}\"\n\n[steps.parts]\nstage = \"split\"\ninputs = { rows = \"texts[kye=id]\" }";
    matrix_not_there: "inputs = { rows = \"texts\" }" => "inputs = { rows = \"texts[*]\" }";
    bracket_not_closed: "inputs = { rows = \"texts\" }" => "inputs = { rows = \"texts[r=8\" }";
    replicates_without_seed: "size = \"${size}\"" => "replicates = 2\nsize = 8";
    replicates_out_of_range: "parts = { train = 0.5, test = 0.5 }" => "replicates = 1001\nparts = { train = 0.5, test = 0.5 }";
    when_unknown_name: "size = \"${size}\"" => "when = \"sise > 4\"\nsize = 8";
    when_yields_a_number: "size = \"${size}\"" => "when = \"size + 1\"\nsize = 8";
    when_is_no_expression: "size = \"${size}\"" => "when = \"size >\"\nsize = 8";
    left_out_and_needed: "id = \"id\"" => "when = \"size > 100\"\nid = \"id\"";
    expect_is_no_expression: "size = \"${size}\"" => "expect = [\"seconds < 5\", { that = \"rows.failed <\", otherwise = \"warn\" }]\nsize = 8";
    expect_unknown_count: "size = \"${size}\"" => "expect = [\"rows.failed < 3\", \"rows.kpet > 3\"]\nsize = 8";
    expect_rows_of_a_step_without: "[steps.texts]" => "[steps.files]\nstage = \"download\"\nsource = \"photos\"\nformat = \"files\"\nexpect = [\"rows.kept > 1\", \"secnods < 3\"]\n\n[steps.texts]";
    expect_unknown_score: "[steps.thumbnails]" => "[steps.scores]\nstage = \"evaluate\"\ninputs = { systems = { mine = \"texts\" } }\nprediction = \"caption\"\nmetrics = [\"adjectives\"]\nexpect = [\"mine.adjectives.value > 1\", \"mine.adjectivs.value > 1\", \"scores['mine'].adjectives.interval.low > 0 && mien.adjectives.n > 2\"]\n\n[steps.thumbnails]";
    nothing_matches: "[steps.texts]" => "[steps.made]\nstage = \"command\"\nrun = [\"true\"]\nfiles = [\"*.nope\"]\noutputs = { made = \"files\" }\n\n[steps.texts]";
    expect_otherwise: "size = \"${size}\"" => "expect = [{ that = \"rows.failed < 1\", otherwise = \"wran\" }]\nsize = 8";
    keep_is_a_number: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"photos\" }\nkeep = \"image.width && image.height > 3\"\n\n[steps.thumbnails]";
    keep_compares_number_and_text: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nkeep = 'words(caption) == \"3\"'\n\n[steps.thumbnails]";
    keep_says_not: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nkeep = \"not caption\"\n\n[steps.thumbnails]";
    keep_negates_text: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nkeep = \"words(caption) > 1 && !caption\"\n\n[steps.thumbnails]";
    keep_has_an_argument_too_many: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nkeep = \"words(caption, 3) > 1\"\n\n[steps.thumbnails]";
    keep_has_an_unknown_function: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nkeep = \"\"\"\n  id != '' &&\n  wrods(caption) > 1\n\"\"\"\n\n[steps.thumbnails]";
    column_of_another_step: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"photos\" }\nkeep = \"size(caption) > 3\"\n\n[steps.thumbnails]";
    column_of_another_type: "[steps.thumbnails]" => "[steps.kept]\nstage = \"filter\"\ninputs = { rows = \"texts\" }\nimage = \"caption\"\n\n[steps.thumbnails]";
    expect_compares_number_and_text: "size = \"${size}\"" => "expect = ['rows.failed < 5 && words(\"a\") == \"1\"']\nsize = 8";
    when_compares_number_and_text: "size = \"${size}\"" => "when = 'size == \"8\"'\nsize = 8";
    format_images_of_a_file_of_records: "[steps.texts]" => "[steps.other]\nstage = \"download\"\nsource = \"texts.jsonl\"\nformat = \"images\"\n\n[steps.texts]";
    format_records_of_a_folder_of_images: "[steps.texts]" => "[steps.other]\nstage = \"download\"\nsource = \"photos\"\nformat = \"jsonl\"\n\n[steps.texts]";
    format_csv_of_json_lines: "[steps.texts]" => "[steps.other]\nstage = \"download\"\nsource = \"texts.jsonl\"\nformat = \"csv\"\n\n[steps.texts]";
    format_model_of_images: "[steps.texts]" => "[steps.other]\nstage = \"download\"\nsource = \"photos\"\nformat = \"model\"\n\n[steps.texts]";
    retries_out_of_range: "size = \"${size}\"" => "retries = 21\nsize = 8";
    timeout_is_no_time: "size = \"${size}\"" => "timeout = \"soon\"\nsize = 8";
    limit_is_no_share: "size = \"${size}\"" => "max_failed_rows = \"1 in 10\"\nsize = 8";
    limit_without_rows: "[steps.texts]" => "[steps.model]\nstage = \"download\"\nsource = \"photos\"\nformat = \"files\"\nmax_failed_rows = 1\n\n[steps.texts]";
    memory_is_no_amount: "size = \"${size}\"" => "resources = { memory = \"much\" }\nsize = 8";
    unknown_resource: "size = \"${size}\"" => "resources = { cpus = 2 }\nsize = 8";
    misspelt_setting: "size = \"${size}\"" => "retires = 2\nsize = 8";
    input_named_by_a_path: "[steps.thumbnails]" => "[steps.own]\nstage = \"command\"\nrun = [\"true\"]\ninputs = { good = \"texts\", \"../../up\" = \"texts\" }\noutputs = { o = \"files\" }\n\n[steps.thumbnails]";
    output_named_by_a_path: "[steps.thumbnails]" => "[steps.own]\nstage = \"command\"\nrun = [\"true\"]\noutputs = { o = \"files\", \"/etc/o\" = \"files\" }\n\n[steps.thumbnails]";
    part_named_by_a_path: "parts = { train = 0.5, test = 0.5 }" => "parts = { train = 0.5, \"../test\" = 0.5 }";
    labels_alike: "[steps.thumbnails]" => "[steps.release]\nstage = \"publish\"\ninputs = { data = [\"parts.train\", \"parts.train\"] }\nname = \"r\"\nlicense = \"cc0-1.0\"\n\n[steps.thumbnails]";
}

#[test]
fn unknown_profile_and_parameter_on_the_command_line() {
    let project = project(GOOD);
    let profile = project.pipe(&["check", "p.toml", "--profile", "smal"]);
    let param = project.pipe(&["check", "p.toml", "--set", "sise=3"]);
    let step = project.pipe(&["run", "p.toml", "thumbnail"]);
    assert_eq!((profile.code, param.code, step.code), (2, 2, 2));
    insta::assert_snapshot!("command_line", [profile.stderr, param.stderr, step.stderr].concat());
}

#[test]
fn a_list_on_the_command_line_is_toml() {
    let project = project(&GOOD.replacen("size = 8", "size = 8\nsizes = [4]", 1));
    let good = project.pipe(&["check", "p.toml", "--set", "sizes=[4, 8]"]);
    let wrong = project.pipe(&["check", "p.toml", "--set", "sizes=4, 8"]);
    assert_eq!((good.code, wrong.code), (0, 2));
    insta::assert_snapshot!("set_list", wrong.stderr);
}

#[test]
fn a_missing_pipeline_is_named() {
    let missing = Project::empty().pipe(&["check", "none.toml"]);
    assert_eq!(missing.code, 3);
    insta::assert_snapshot!("missing_pipeline", missing.stderr);
}

#[test]
fn a_pipeline_that_is_no_text() {
    let project = Project::empty();
    project.write("t.toml", b"name = \"p\"\ndescription = \"caf\xe9\"\n");
    let checked = project.pipe(&["check", "t.toml"]);
    assert_eq!(checked.code, 3);
    insta::assert_snapshot!("not_utf8", checked.stderr);
}

#[test]
fn a_lock_without_a_profile() {
    let project = project(GOOD);
    let _ = project.run(&["p.toml"]);
    let held = project.pipe(&["run", "p.toml", "--profile", "small", "--locked"]);
    assert_eq!(held.code, 2);
    insta::assert_snapshot!("lock_without_profile", held.stderr);
}

#[test]
fn a_step_that_a_parameter_leaves_out_is_told_with_it() {
    let spec = GOOD.replacen("size = 8", "size = 8\nsmall = false", 1);
    let project = project(&spec.replacen("size = \"${size}\"", "when = \"${small}\"\nsize = 4", 1));
    let plan = project.pipe(&["plan", "p.toml"]).stdout;
    assert!(plan.contains("left out: thumbnails: `${small}` is false (p.toml:27:8)"), "{plan}");
}

#[test]
fn mistakes_for_programs_are_json() {
    let project = project(&GOOD.replacen("size = \"${size}\"", "size = 0", 1));
    let checked = project.pipe(&["check", "p.toml", "--json"]);
    assert_eq!(checked.code, 3);
    insta::assert_snapshot!("json", checked.stdout);
}

#[test]
fn bad_rows_are_counted_and_listed_and_not_fatal() {
    let project = project(GOOD);
    project.write("texts.jsonl", "{\"id\": \"a\", \"caption\": \"x\"}\nnot json\n{\"id\": \"a\", \"caption\": \"y\"}\n{\"caption\": \"z\"}\n{\"id\": \"c\", \"caption\": 7}\n");
    project.write("photos/broken.png", b"\x89PNG\r\n\x1a\n");
    let run = project.pipe(&["run", "p.toml"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let texts = project.pipe(&["show", "p.toml", "texts", "--left-out"]);
    let thumbnails = project.pipe(&["show", "p.toml", "thumbnails", "--left-out"]);
    let one = project.pipe(&["show", "p.toml", "texts", "--left-out", "--rows", "1"]).stdout;
    assert!(one.contains("t") && one.ends_with("more  2, which `--rows N` lists, too\n"), "{one}");
    insta::assert_snapshot!("bad_rows", [texts.stdout, thumbnails.stdout].concat());
}
