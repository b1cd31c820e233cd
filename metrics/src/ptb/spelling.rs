//! How tokens are written out.

use super::rules::Spell;

/// The written form of a token in its own case; nothing where the rule drops it.
pub(super) fn write(spell: Spell, token: &str) -> Option<String> {
    Some(match spell {
        Spell::Nothing => return None,
        Spell::Verbatim => token.to_owned(),
        Spell::Word => without_soft_hyphens(token),
        Spell::As(fixed) => fixed.to_owned(),
        Spell::Joined => token.replace(' ', "\u{A0}").replace('(', "-lrb-").replace(')', "-rrb-"),
        Spell::Straight => token.replace("&apos;", "'").replace(['’', '\u{92}'], "'"),
        Spell::Ampersand => ampersands(token),
        Spell::Quotes => token.chars().map(quote).collect(),
    })
}

fn without_soft_hyphens(token: &str) -> String {
    let word = token.replace('\u{AD}', "");
    if word.is_empty() { "-".to_owned() } else { word }
}

/// `AT&amp;T` as `AT&T`, whatever the case of the entity.
fn ampersands(token: &str) -> String {
    let mut parts = token.split(';');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.truncate(out.len() - "amp".len());
        out.push_str(part);
    }
    out
}

fn quote(c: char) -> String {
    match c {
        '‘' | '‛' | '‹' | '\u{91}' => "`".to_owned(),
        '’' | '›' | '\u{92}' => "'".to_owned(),
        '“' | '«' | '\u{93}' => "``".to_owned(),
        '”' | '»' | '\u{94}' => "''".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_inside_names_become_signs() {
        assert_eq!(write(Spell::Ampersand, "AT&amp;T").as_deref(), Some("AT&T"));
        assert_eq!(write(Spell::Ampersand, "A&AMP;B+C&D").as_deref(), Some("A&B+C&D"));
    }

    #[test]
    fn a_token_of_soft_hyphens_is_a_hyphen() {
        assert_eq!(write(Spell::Word, "\u{AD}").as_deref(), Some("-"));
        assert_eq!(write(Spell::Word, "co\u{AD}op").as_deref(), Some("coop"));
    }
}
