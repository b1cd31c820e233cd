//! The word lists of the tokenizer.

/// Abbreviations before a name or a word: they keep their full stop whatever follows.
pub(super) const TITLES: &[&str] = &[
    "adj", "adm", "adv", "alex", "assoc", "asst", "atty", "attys", "ave", "brig", "capt", "cf", "cie", "cmdr", "col",
    "comdr", "cpl", "dept", "det", "dr", "drs", "elec", "ens", "ft", "gen", "gov", "govs", "hon", "insp", "invt",
    "jos", "lieut", "lt", "maj", "messrs", "mlle", "mme", "mr", "mrs", "ms", "msgr", "mt", "natl", "pfc", "ph", "pres",
    "prof", "profs", "pvt", "rep", "reps", "rev", "sen", "sens", "sfc", "sgt", "spc", "st", "ste", "supt", "supts",
    "treas", "vs", "wm",
];

/// Abbreviations that may end a sentence: before a capital the full stop is a token once more.
pub(super) const FINALS: &[&str] = &[
    "al", "ala", "apr", "ariz", "assn", "aug", "bhd", "bldg", "blvd", "bros", "calif", "co", "colo", "conn", "corp",
    "cos", "ct", "dak", "dec", "esq", "est", "etc", "ext", "feb", "fla", "fri", "ga", "inc", "ind", "intl", "jan",
    "jr", "jul", "jun", "kan", "kans", "ky", "ltd", "mar", "md", "mich", "minn", "mo", "mon", "mont", "neb", "nev",
    "nov", "oct", "okla", "penn", "plc", "rd", "rt", "sep", "sept", "seq", "sq", "sr", "sys", "tel", "tenn", "thu",
    "thurs", "tue", "tues", "univ", "va", "vt", "wed", "wis", "wisc", "wyo", r"ph\.d", r"ed\.d",
];

/// Like [`FINALS`], but only as written here: in lower case they are words.
pub(super) const CASED_FINALS: &[&str] = &[
    "Ark",
    "ARK",
    "Az",
    "AZ",
    "Del",
    "DEL",
    "Ill",
    "ILL",
    "La",
    "LA",
    "Mass",
    "MASS",
    "Miss",
    "MISS",
    "Ore",
    "ORE",
    "Pa",
    "PA",
    "Tex",
    "TEX",
    "Wash",
    "WASH",
    "[Pp]ptes?",
    "[Pp]ptys?",
    "[Pp]tes?",
    "[Pp]tys?",
];

/// Like [`TITLES`], but only as written here.
pub(super) const CASED_TITLES: &[&str] = &["[Mm]fg", "[Mm]tg"];

/// Abbreviations that keep their full stop only before a number.
pub(super) const NUMBERED: &[&str] = &["art", "ca", "figs?", "nos?", "op", "pp", "prop"];

/// Words that, with a capital, begin a sentence after an initial or an acronym.
pub(super) const STARTERS: &[&str] = &[
    "A",
    "About",
    "According",
    "Additionally",
    "After",
    "An",
    "As",
    "At",
    "But",
    "Earlier",
    "He",
    "Her",
    "Here",
    "However",
    "If",
    "In",
    "It",
    "Last",
    "Many",
    "More",
    "Now",
    "Once",
    "One",
    "Other",
    "Our",
    "She",
    "Since",
    "So",
    "Some",
    "Such",
    "That",
    "The",
    "Their",
    "Then",
    "There",
    "These",
    "They",
    "This",
    "We",
    "What",
    "When",
    "While",
    "Yet",
    "You",
    r"Mr\.",
    r"Ms\.",
];

/// Extensions that make a dotted word a file name.
pub(super) const EXTENSIONS: &[&str] = &[
    "bat", "bmp", "c", "cgi", "class", "cpp", "dll", "doc", "docx", "exe", "gif", "gz", "h", "htm", "html", "jar",
    "java", "jpeg", "jpg", "mov", "mp3", "pdf", "php", "pl", "png", "ppt", "ps", "py", "sql", "tar", "txt", "wav", "x",
    "xml", "zip",
];
