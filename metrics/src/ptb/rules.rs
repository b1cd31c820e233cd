//! The rules of the tokenizer, one row each.
//!
//! The longest match wins and *includes the look-ahead* of its rule; of two equally long matches the earlier row wins. Order
//! therefore matters only between rows that can match the same text.

use super::{classes, lists};

/// How much of a match is the token; reading goes on behind it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    /// All of it.
    Whole,
    /// All but so many characters of look-ahead.
    ButLast(usize),
    /// What stands before the first white space.
    ToSpace,
    /// What stands before the first white space; its full stop is read a second time, as the end of the sentence.
    ToSpaceStopTwice,
    /// What stands before the first white space, less its full stop.
    ToSpaceLessStop,
}

/// How a token is written out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spell {
    /// Not at all: there is no token.
    Nothing,
    /// As it stands.
    Verbatim,
    /// Without the soft hyphens; nothing but soft hyphens is one hyphen.
    Word,
    /// Always like this.
    As(&'static str),
    /// With no-break spaces for spaces and names for round brackets.
    Joined,
    /// With a straight apostrophe.
    Straight,
    /// With `&` for `&amp;`.
    Ampersand,
    /// Every typographic quotation mark by its ASCII form.
    Quotes,
}

/// One row.
pub(super) struct Rule {
    /// What the row is for, by example.
    #[cfg_attr(not(test), expect(dead_code, reason = "it names the row in the table and in failing tests"))]
    pub name: &'static str,
    /// A regular expression in which `<name>` stands for a row of [`fragments`].
    pub pattern: &'static str,
    /// How much of the match is the token.
    pub keep: Keep,
    /// How it is written.
    pub spell: Spell,
}

const fn rule(name: &'static str, pattern: &'static str) -> Rule {
    Rule { name, pattern, keep: Keep::Whole, spell: Spell::Word }
}

impl Rule {
    const fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    const fn spell(mut self, spell: Spell) -> Self {
        self.spell = spell;
        self
    }
}

/// Named parts of patterns; a row may use the rows above it.
fn fragments() -> Vec<(&'static str, String)> {
    let words = |list: &[&str]| format!("(?i-u:{})", list.join("|"));
    let mut rows = vec![
        ("sp", classes::SPACE.to_owned()),
        ("sym", classes::SYMBOL.to_owned()),
        ("d", classes::DIGIT.to_owned()),
        ("l", classes::LETTER.to_owned()),
        ("mark", classes::MARK.to_owned()),
        ("title", format!("(?:{}|{})", words(lists::TITLES), lists::CASED_TITLES.join("|"))),
        ("final", format!("(?:{}|{})", words(lists::FINALS), lists::CASED_FINALS.join("|"))),
        ("numbered", words(lists::NUMBERED)),
        ("extension", words(lists::EXTENSIONS)),
        ("starter", starters()),
    ];
    rows.extend(FRAGMENTS.iter().map(|&(name, pattern)| (name, pattern.to_owned())));
    rows
}

/// The words of [`lists::STARTERS`]: a capital, then either case.
fn starters() -> String {
    let capital = |word: &&str| format!("{}(?i-u:{})", &word[..1], &word[1..]);
    let words: Vec<String> = lists::STARTERS.iter().map(capital).collect();
    format!("(?:{})", words.join("|"))
}

/// Replaces every `<name>` in a pattern by the fragment of that name.
pub(super) fn expand(pattern: &str) -> String {
    let fragments = fragments();
    fragments.iter().rev().fold(pattern.to_owned(), |text, (name, part)| text.replace(&format!("<{name}>"), part))
}

const FRAGMENTS: &[(&str, &str)] = &[
    ("gap", r"[ \u00A0]"),
    ("blank", r"(?:<sp>|\n)"),
    ("apostrophe", r"(?:['’\u0092]|&apos;)"),
    ("anyapostrophe", r"(?:['’‛\u0092`]|&apos;)"),
    ("entity", r"&[AEIOUaeiou](?:acute|grave|uml);"),
    ("letter", r"(?:<l>|<mark>|<entity>)"),
    ("word", r"<letter>(?:<letter>|[0-9])*(?:[.!?]<letter>(?:<letter>|[0-9])*)*"),
    ("alnum", r"(?:<l>|<d>)"),
    // A word with an apostrophe inside: after a vowel and before a vowel or capital, or after one letter (o'neil, d'artagnan).
    (
        "elided",
        r"(?:<l>+[AEIOUYaeiouy]<anyapostrophe>[aeiouA-Z]<l>*|[A-HJ-XZdlno]<anyapostrophe><l><l>+|(?i-u:o)<anyapostrophe>(?i-u:o))",
    ),
    ("part", r"(?:(?i-u:[dlo])<anyapostrophe><alnum>)?<alnum>+"),
    ("hyphened", r"<part>(?:[-_\u2010\u2011\u058A]<part>)+"),
    ("dotted", r"[A-Za-z0-9][A-Za-z0-9.,\u00AD]*(?:-(?:[A-Za-z0-9\u00AD]+|[A-Za-z](?:\.[A-Za-z])+\.))+"),
    ("slashpart", r"[A-Za-z0-9]+(?:-[A-Za-z]+)*"),
    ("number", r"(?:<d>+|<d>*(?:[.:,\u00AD\u066B\u066C]<d>+)+)"),
    ("tagname", r"[A-Za-z][A-Za-z0-9_:.-]*"),
    ("attribute", r#"<tagname>(?: *= *(?:'[^']*'|"[^"]*"))?"#),
    ("tag", r"(?:</?<tagname>(?: +<attribute>)* */?>|<[!?][A-Za-z-][^>]*>)"),
    ("urlend", r#"[^ \t\n"()<>|{}!,.?-]"#),
    ("urlpath", r#"/[^ \t\n"()<>|]+<urlend>"#),
    ("label", r#"[^ \t\n\u00A0\u2000-\u200A"`$'(),\-/:;<=>\[\\\]^_{|}.!?@0-9A-Z]+\."#),
    ("atom", r#"[^ \t\n\u00A0"()<>|{}.]+"#),
    ("eye", r"[-'<=>^x~]"),
];

/// All rows.
pub(super) const RULES: &[Rule] = &[
    rule("white space", r"<sp>|&(?i-u:nbsp);|\n").spell(Spell::Nothing),
    rule("tag", "<tag>").spell(Spell::Joined),
    // Words that are two.
    rule("can|not", "(?i-u:cannot)").keep(Keep::ButLast(3)),
    rule("gon|na", "(?i-u:gonna|wanna|gotta|gimme|lemme)").keep(Keep::ButLast(2)),
    rule("'t|is", "'(?i-u:tis)").keep(Keep::ButLast(2)),
    rule("'t|was", "'(?i-u:twas)").keep(Keep::ButLast(3)),
    rule("do|n't", r"[A-Za-z\u00AD]*[A-MO-Za-mo-z](?i-u:n)['’‛\u0092`](?i-u:t)").keep(Keep::ButLast(3)),
    rule("do|n&apos;t", r"[A-Za-z\u00AD]*[A-MO-Za-mo-z](?i-u:n)&apos;(?i-u:t)").keep(Keep::ButLast(8)),
    rule("n't", "(?i-u:n)<anyapostrophe>(?i-u:t)").spell(Spell::Straight),
    rule("'s before no letter", "<apostrophe>(?i-u:s|m|d|re|ve|ll)[^A-Za-z]")
        .keep(Keep::ButLast(1))
        .spell(Spell::Straight),
    rule("it|'s", r"<word>['’\u0092](?i-u:s|m|d)").keep(Keep::ButLast(2)),
    rule("we|'re", r"<word>['’\u0092](?i-u:re|ve|ll)").keep(Keep::ButLast(3)),
    rule("it|&apos;s", "<word>&apos;(?i-u:s|m|d)").keep(Keep::ButLast(7)),
    rule("we|&apos;re", "<word>&apos;(?i-u:re|ve|ll)").keep(Keep::ButLast(8)),
    // Words with an apostrophe that are one.
    rule("'em", "['’](?i-u:em|till?|cause)|['’][2-9]0(?i-u:s)|['’](?i-u:n)['’]?"),
    rule("dunkin'", "(?i-u:dunkin|somethin|ol)['’]"),
    rule("o'clock", "(?i-u:o)['’](?i-u:clock)|(?i-u:ma)['’](?i-u:am)|(?i-u:d'oh|o'er|e'er|ne'er|c'mon)"),
    rule("'90", "['’][0-9][0-9]<blank>").keep(Keep::ButLast(1)),
    rule("d'", "(?i-u:[djl])<apostrophe>"),
    rule("y'|all", "(?i-u:y)<apostrophe><l>").keep(Keep::ButLast(1)),
    // Full stops that belong to a word.
    rule("Mr.", r"<title>\."),
    rule("Inc.", r"<final>\."),
    rule("Inc. The", r"<final>\.<sp>+(?:\p{Lu}|<tag>|<blank>)").keep(Keep::ToSpaceStopTwice),
    rule("no.5", r"<numbered>\.<d>").keep(Keep::ButLast(1)),
    rule("no. 5", r"<numbered>\.<sp><d>").keep(Keep::ToSpace),
    rule("P. The", r"[A-Za-z]\.<sp>+(?:<starter>|<tag>)<blank>").keep(Keep::ToSpaceLessStop),
    rule("U.S. The", r"[A-Za-z](?:\.[A-Za-z])+\.<sp>+(?:<starter>|<tag>)<blank>").keep(Keep::ToSpaceStopTwice),
    rule("U.S.", r"[A-Za-z](?:\.[A-Za-z])*\."),
    rule("word.,", r"(?:<word>|<elided>|<part>|<hyphened>|<dotted>)\.[,;:]").keep(Keep::ButLast(1)),
    // Words.
    rule("word", "<word>"),
    rule("o'neil", "<elided>"),
    rule("Inc.-x", r"<final>\.(?s:..)").keep(Keep::ButLast(2)),
    rule("compound", "<part>|<hyphened>|<dotted>"),
    rule("file name", r"<alnum>+(?:\.<alnum>+)*\.<extension>(?:<blank>|[!,.?-])")
        .keep(Keep::ButLast(1))
        .spell(Spell::Verbatim),
    rule("and/or", r"<slashpart>(?:\\?/<slashpart>){1,2}"),
    rule("AT&T", "[A-Z]+(?:(?:[&+]|&(?i-u:amp);)[A-Z]+)+").spell(Spell::Ampersand),
    rule("C++", r"(?i-u:c\+\+|[cf]#)"),
    // Numbers.
    rule("number", "[-+]?<number>"),
    rule("fraction", r"(?:<d>{1,4}[- \u00A0])?<d>{1,4}(?:\\?/|\u2044)<d>{1,4}").spell(Spell::Joined),
    rule("date", "[0-9]{1,2}[-/][0-9]{1,2}[-/][0-9]{2,4}"),
    rule("phone", r"\+?[0-9]{2,4}[- \u00A0](?:[0-9]{2,4}[- \u00A0])?[0-9]{3,4}[- \u00A0]?[0-9]{3,5}")
        .spell(Spell::Joined),
    rule("(555) phone", r"\([0-9]{2,3}\)<gap>?[0-9]{3,4}[- \u00A0]?[0-9]{3,5}").spell(Spell::Joined),
    rule("US$", r"[A-Z]+\$"),
    // The net.
    rule("#tag", "#<letter>+").spell(Spell::Verbatim),
    rule("@name", "@[A-Za-z_][A-Za-z0-9_]*").spell(Spell::Verbatim),
    rule("e-mail", r#"(?:<|&(?i-u:lt);)?[A-Za-z0-9][^ \t\n\u00A0"()<>|{}]*@(?:<atom>\.)*<atom>(?:>|&(?i-u:gt);)?"#)
        .spell(Spell::Verbatim),
    rule("http://", r#"(?i-u:https?)://[^ \t\n"()<>|{}]+<urlend>"#).spell(Spell::Verbatim),
    rule("www.", r#"(?i-u:www)\.(?:[^ \t\n"(),<>{|}.!?]+\.)+[A-Za-z]{2,4}(?:<urlpath>)?"#).spell(Spell::Verbatim),
    rule(".com", "(?:<label>)+(?:com|net|org|edu)(?:<urlpath>)?").spell(Spell::Verbatim),
    rule(":-)", r"[<>]?[:;=][-'o*]?[()DPdp\[\]\\|{@O][^A-Za-z0-9]").keep(Keep::ButLast(1)).spell(Spell::Joined),
    rule("^_^", r"<eye>_<eye>|\(<eye>[_.]?<eye>\)|\(['<=>^x~]-['<=>^x~]\)").spell(Spell::Joined),
    // Punctuation.
    rule("...", r"\.{3,5}|(?:\.<gap>){2,4}\.|…").spell(Spell::As("...")),
    rule("--", r"-{2,4}|[–—―\u0096\u0097]|&(?i-u:mdash|ndash);").spell(Spell::As("--")),
    rule("-----", "-{5,}"),
    rule("!!!", r"[?!]+|_+|@+|#+|\*+|(?:\\\*)+|<<|>>|[\u00B2\u00B3\u00B9\u2070\u2074-\u2079\u2080-\u2089]+"),
    rule("opening \"", r#"(?:"|&quot;)[A-Za-z0-9$]"#).keep(Keep::ButLast(1)).spell(Spell::As("``")),
    rule("closing \"", r#""|''|&quot;"#).spell(Spell::As("''")),
    rule("&#39;", "&#[0-9]+;|&(?i-u:quot);"),
    rule("opening '", r"'[A-Za-z][^ \t\n\u00A0]").keep(Keep::ButLast(2)).spell(Spell::As("`")),
    rule("'s", "<apostrophe>(?i-u:s|m|d|re|ve|ll)").spell(Spell::Straight),
    rule("“”", r"[`‘’‚‛“”„‟‹›«»\u0091-\u0094]{1,2}").spell(Spell::Quotes),
    rule("'", "'|&(?i-u:apos);").spell(Spell::As("'")),
    rule("(", r"\(").spell(Spell::As("-lrb-")),
    rule(")", r"\)").spell(Spell::As("-rrb-")),
    rule("[", r"\[").spell(Spell::As("-lsb-")),
    rule("]", r"\]").spell(Spell::As("-rsb-")),
    rule("{", r"\{").spell(Spell::As("-lcb-")),
    rule("}", r"\}").spell(Spell::As("-rcb-")),
    rule("&amp;", "&(?i-u:amp);").spell(Spell::As("&")),
    rule("&lt;", "&(?i-u:lt);").spell(Spell::As("<")),
    rule("&gt;", "&(?i-u:gt);").spell(Spell::As(">")),
    rule("¢", "¢").spell(Spell::As("cents")),
    rule("€", r"[\u0080¤\u20A0€]").spell(Spell::As("$")),
    rule("£", "£").spell(Spell::As("#")),
    rule("½", "½").spell(Spell::As("1/2")),
    rule("¼", "¼").spell(Spell::As("1/4")),
    rule("¾", "¾").spell(Spell::As("3/4")),
    rule("⅓", "⅓").spell(Spell::As("1/3")),
    rule("⅔", "⅔").spell(Spell::As("2/3")),
    rule("soft hyphen", r"\u00AD"),
    rule("symbol", "<sym>"),
];
