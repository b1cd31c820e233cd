//! `pipe new`: a directory with a commented pipeline that works, and data to try it on.

use std::path::Path;

use pipe_engine::problem::Failure;
use pipe_engine::spec::SpecError;
use serde_json::json;

use crate::args::{NewArgs, Template};
use crate::error::CliError;
use crate::{exit, text};

/// A file of a template, by its path in the directory. `NAME` stands for the name of the pipeline, in texts and paths.
type File = (&'static str, &'static [u8]);

const PICTURES: [File; 2] = [
    ("data/red.png", include_bytes!("../../templates/red.png")),
    ("data/blue.png", include_bytes!("../../templates/blue.png")),
];

const fn about(template: Template) -> &'static str {
    match template {
        Template::Captions => "captions for a folder of pictures, and a card that tells how they were made",
        Template::Finetune => "a language model fine-tuned with LoRA on pairs of texts, compared with its base",
        Template::Text => "texts cleaned, without repetitions, in two parts, and a card that tells how they were made",
    }
}

/// What the whole pipeline fetches from the network, and the step that needs nothing of it.
const fn fetches(template: Template) -> Option<(&'static str, &'static str)> {
    match template {
        Template::Captions => Some(("a model of 15 GB", "resized")),
        Template::Finetune => Some(("a model of 6 GB", "parts")),
        Template::Text => None,
    }
}

fn files(template: Template) -> Vec<File> {
    let mut files = match template {
        Template::Captions => vec![("NAME.toml", &include_bytes!("../../templates/captions.toml")[..])],
        Template::Finetune => vec![
            ("NAME.toml", &include_bytes!("../../templates/finetune.toml")[..]),
            ("data/pairs.jsonl", include_bytes!("../../templates/pairs.jsonl")),
        ],
        Template::Text => vec![
            ("NAME.toml", &include_bytes!("../../templates/text.toml")[..]),
            ("data/texts.jsonl", include_bytes!("../../templates/texts.jsonl")),
        ],
    };
    if template == Template::Captions {
        files.extend(PICTURES);
    }
    files
}

/// Writes a new pipeline.
pub fn new(args: &NewArgs, json: bool) -> Result<u8, CliError> {
    let path = std::path::absolute(&args.name).map_err(|error| Failure::io("find", &args.name, &error))?;
    let name = name_of(&path)?;
    super::export::make_empty(&args.name)?;
    let needs = fetches(args.template).map_or_else(String::new, |(model, first)| {
        format!(
            "The whole fetches {model} from the Hugging Face Hub and wants a GPU; `pipe run {name}.toml {first}` needs neither.\n"
        )
    });
    let readme =
        format!("`pipe run {name}.toml` makes {}; see the comments in the file.\n{needs}", about(args.template));
    let mut written = Vec::new();
    for (path, content) in files(args.template).into_iter().chain([("README.md", readme.as_bytes())]) {
        let content = match path.ends_with(".toml") {
            true => String::from_utf8_lossy(content).replace("NAME", name).into_bytes(),
            false => content.to_vec(),
        };
        let path = path.replace("NAME", name);
        write(&args.name.join(&path), &content)?;
        written.push(path);
    }
    if json {
        text::out(&json!({ "directory": args.name, "files": written }).to_string());
    } else {
        let spec = args.name.join(format!("{name}.toml"));
        let files = format!("{}: {}", args.name.display(), written.join(", "));
        text::out(&format!("{files}\n{needs}go on with: pipe check {}", spec.display()));
    }
    Ok(exit::DONE)
}

/// The last part of the path names the pipeline.
fn name_of(path: &Path) -> Result<&str, SpecError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let plain = |name: &&str| name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c));
    name.filter(plain).ok_or_else(|| SpecError::Override {
        message: format!("`{}` cannot name a pipeline", path.file_name().unwrap_or_default().display()),
        help: Some("use letters, digits, `_` and `-`".to_owned()),
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
    std::fs::write(path, content).map_err(|error| Failure::io("write", path, &error))
}
