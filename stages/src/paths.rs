//! Paths as they stand in a pipeline, and what to do about one that leads nowhere: what a shell would make of it is not made of it.

use std::fs;
use std::path::Path;

use pipe_engine::problem::nearest;

/// Characters of patterns.
const WILD: [char; 4] = ['*', '?', '[', '{'];

/// What to do about a path that leads nowhere: what it would mean in a shell, or what lies near where it was sought.
#[must_use]
pub fn help(text: &str, path: &Path) -> Option<String> {
    shell(text).or_else(|| near(path))
}

/// What a path would mean in a shell, where that is a name or a variable.
#[must_use]
pub fn shell(text: &str) -> Option<String> {
    if text.starts_with('~') {
        return Some("`~` stands for itself here: write the whole path".to_owned());
    }
    let at = text.find('$')?;
    let name: String = text[at + 1..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    Some(format!(
        "`${name}` stands for itself here: write the whole path, or a parameter `${{data}}` and --set data=\"${name}/…\""
    ))
}

/// What to do about a source that is written as a pattern.
#[must_use]
pub fn pattern(text: &str) -> Option<String> {
    let at = text.find(WILD)?;
    let (folder, pattern) = text.split_at(text[..at].rfind('/').map_or(0, |slash| slash + 1));
    let folder = folder.trim_end_matches('/');
    let folder = if folder.is_empty() { "." } else { folder };
    Some(format!("write `source = \"{folder}\"`, and choose its files: `include = [\"{pattern}\"]`"))
}

/// What lies near where a path leads nowhere.
#[must_use]
pub fn near(path: &Path) -> Option<String> {
    let existing = path.ancestors().skip(1).find(|folder| folder.is_dir())?;
    let sought = path.strip_prefix(existing).ok()?.iter().next()?.to_str()?;
    let entries = fs::read_dir(existing).into_iter().flatten().filter_map(Result::ok);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    Some(match nearest(sought, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {}?", existing.join(near).display()),
        None => format!("{} exists, and has no `{sought}`", existing.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_do_is_told() {
        assert_eq!(shell("~/data").unwrap(), "`~` stands for itself here: write the whole path");
        assert!(shell("$HOME/data").unwrap().starts_with("`$HOME` stands for itself here"));
        assert_eq!(shell("data"), None);
        let wanted = |folder: &str, include: &str| {
            Some(format!("write `source = \"{folder}\"`, and choose its files: `include = [\"{include}\"]`"))
        };
        assert_eq!(pattern("data/a/*.png"), wanted("data/a", "*.png"));
        assert_eq!(pattern("**/x.png"), wanted(".", "**/x.png"));
        assert_eq!(pattern("data"), None);
    }

    #[test]
    fn letters_and_capitals_are_near() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        assert_eq!(
            near(&dir.path().join("DATA/x")),
            Some(format!("did you mean {}?", dir.path().join("data").display()))
        );
    }
}
