//! The files a program depends on: found while planning, laid out before it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;
use pipe_engine::dataset::changed_meanwhile;
use pipe_engine::problem::{Failure, Problem, nearest};
use pipe_engine::stage::{Resolution, ResolveContext, SourceFile};
use pipe_engine::{FileDigest, StatIndex};
use walkdir::WalkDir;

use crate::paths;
use crate::record_rows::stays_inside;

/// What planning finds of a program: that there is one, and the files it depends on.
pub fn resolve(run: &[String], files: &[String], context: &ResolveContext<'_>) -> Result<Resolution, Problem> {
    super::find(run, context.base)?;
    let files = find(run, files, context)?;
    check_script(run, context.base)?;
    Ok(Resolution { files, ..Resolution::default() })
}

/// How programs that run scripts are called, and how scripts for them end.
const SCRIPTS: &[(&str, &[&str])] = &[
    ("python", &["py"]),
    ("pypy", &["py"]),
    ("bash", &["sh", "bash"]),
    ("sh", &["sh"]),
    ("dash", &["sh"]),
    ("zsh", &["sh", "zsh"]),
    ("Rscript", &["R", "r"]),
    ("julia", &["jl"]),
    ("node", &["js", "mjs", "cjs"]),
    ("deno", &["js", "ts"]),
    ("perl", &["pl"]),
    ("ruby", &["rb"]),
];

/// Options after which the rest of the arguments belong to a program that is no file.
const NO_SCRIPT: &[&str] = &["-c", "-m", "-e", "-E", "--eval"];

/// Checks that the script is there which an interpreter is to run. Other arguments may name what is yet to be made.
fn check_script(run: &[String], base: &Path) -> Result<(), Problem> {
    let program = run.first().map(|program| program.rsplit('/').next().unwrap_or(program)).unwrap_or_default();
    // `python3.12`
    let name = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let Some((_, endings)) = SCRIPTS.iter().find(|(interpreter, _)| *interpreter == name) else { return Ok(()) };
    let is_script = |argument: &str| argument.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending));
    let arguments = run.iter().enumerate().skip(1);
    let mut until_code = arguments.take_while(|(_, argument)| !NO_SCRIPT.contains(&argument.as_str()));
    let Some((at, script)) = until_code.find(|(_, argument)| is_script(argument)) else { return Ok(()) };
    let path = base.join(script);
    // A place of the program's own is not known yet.
    if script.contains(['{', '}']) || path.is_file() {
        return Ok(());
    }
    let problem = Problem::param(format!("run.{at}"), format!("there is no script `{script}`"));
    Err(match paths::help(script, &path) {
        Some(help) => problem.help(help),
        None => problem,
    })
}

/// The files named by the arguments in `run` and by the patterns of `files`, with their digests, sorted by name.
fn find(run: &[String], files: &[String], context: &ResolveContext<'_>) -> Result<Vec<SourceFile>, Problem> {
    let mut named = BTreeMap::new();
    for pattern in files {
        add_matches(pattern, context.base, &mut named)?;
    }
    let mut sought = named.clone();
    for (at, argument) in run.iter().enumerate() {
        // A program without a slash is looked for on PATH.
        // A place of the program's own is no file beside the pipeline.
        let may_be_file = if at > 0 { !argument.contains(['{', '}']) } else { argument.contains('/') };
        if may_be_file && !argument.is_empty() && stays_inside(argument) {
            sought.insert(plain(argument), context.base.join(argument));
        }
    }
    let (names, paths): (Vec<String>, Vec<PathBuf>) = sought.into_iter().unzip();
    let found = context.index.digests(&paths);
    let is_file = |(name, found): (&String, &std::io::Result<FileDigest>)| match found {
        Err(error) => named.contains_key(name) || !is_no_file(error),
        Ok(_) => true,
    };
    let all = names.into_iter().zip(paths).zip(found);
    all.filter(|((name, _), found)| is_file((name, found)))
        .map(|((name, path), found)| source_file(name, path, found))
        .collect()
}

/// Whether there is no file at a path, as far as an argument of a program is concerned.
fn is_no_file(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, InvalidInput, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), InvalidFilename | InvalidInput | IsADirectory | NotADirectory | NotFound)
}

/// A relative path without `./`.
fn plain(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn source_file(name: String, path: PathBuf, found: std::io::Result<FileDigest>) -> Result<SourceFile, Problem> {
    match found {
        Ok(found) => Ok(SourceFile { name, path, digest: found.digest, len: found.len }),
        Err(error) => Err(Problem::param("files", format!("cannot read {}: {error}", path.display())).gone()),
    }
}

fn add_matches(pattern: &str, base: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Problem> {
    if pattern.is_empty() || !stays_inside(pattern) {
        return Err(Problem::param("files", format!("`{pattern}` leads out of the folder of the pipeline")));
    }
    let clean = plain(pattern);
    let wild = clean.contains(['*', '?', '[', '{']);
    let path = base.join(&clean);
    if !wild && path.is_file() {
        found.insert(clean, path);
        return Ok(());
    }
    let all = if !wild && path.is_dir() { format!("{clean}/**") } else { clean };
    let before = found.len();
    let matcher = GlobBuilder::new(&all)
        .literal_separator(true)
        .build()
        .map_err(|error| Problem::param("files", format!("`{pattern}` is not a pattern: {}", error.kind())))?
        .compile_matcher();
    // Only the folder that the pattern names without wildcards is walked.
    let fixed: PathBuf = all.split('/').take_while(|part| !part.contains(['*', '?', '[', '{'])).collect();
    let visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let entries = WalkDir::new(base.join(fixed)).follow_links(true).into_iter().filter_entry(visible);
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_file()) {
        let name = entry.path().strip_prefix(base).ok().and_then(Path::to_str);
        if let Some(name) = name.filter(|name| matcher.is_match(name)) {
            found.insert(name.to_owned(), entry.path().to_owned());
        }
    }
    if found.len() == before { Err(nothing(pattern, base)) } else { Ok(()) }
}

fn nothing(pattern: &str, base: &Path) -> Problem {
    let entries = fs::read_dir(base).into_iter().flatten().filter_map(Result::ok);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    if pattern.contains(['*', '?', '[', '{']) {
        let problem = Problem::param("files", format!("no file matches `{pattern}`")).gone();
        return problem.help(format!("paths start from {}; what begins with a dot is left out", base.display()));
    }
    let problem = Problem::param("files", format!("there is no file `{pattern}`")).gone();
    if let Some(help) = paths::shell(pattern) {
        return problem.help(help);
    }
    match nearest(pattern, names.iter().map(String::as_str).filter(|name| !name.starts_with('.'))) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem.help(format!("paths start from {}", base.display())),
    }
}

/// Copies the files to where the program runs, and checks that they are what planning saw. Gives what to start: a program named by a path
/// stays where it lies, since an interpreter in an environment of its own finds the rest of it by its place.
pub fn lay_out(run: &[String], files: &[SourceFile], work: &Path) -> Result<PathBuf, Failure> {
    let index = StatIndex::in_memory();
    let program = run.first().map(String::as_str).unwrap_or_default();
    let mut executable = PathBuf::from(program);
    for file in files {
        let target = work.join(&file.name);
        let folder = target.parent().unwrap_or(work);
        fs::create_dir_all(folder).map_err(|error| Failure::io("create", folder, &error))?;
        fs::copy(&file.path, &target).map_err(|error| Failure::io("copy", &file.path, &error))?;
        let copied = index.digest(&target).map_err(|error| Failure::io("read", &target, &error))?;
        if copied.digest != file.digest {
            return Err(changed_meanwhile(&file.path));
        }
        if program.contains('/') && file.name == plain(program) {
            executable.clone_from(&file.path);
        }
    }
    Ok(executable)
}
