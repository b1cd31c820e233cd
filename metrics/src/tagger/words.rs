//! Words the rules of the tagger name.

/// Common adjectives of descriptions that the lexicon lacks and no ending gives away.
pub(super) const ADJECTIVES: &[&str] = &[
    "ajar",
    "apt",
    "azure",
    "barefoot",
    "barren",
    "beige",
    "blonde",
    "brunette",
    "burgundy",
    "chrome",
    "cliche",
    "cozy",
    "crimson",
    "cyan",
    "derelict",
    "drab",
    "ebony",
    "fuchsia",
    "gaunt",
    "gilt",
    "gleaming",
    "gnarly",
    "indigo",
    "khaki",
    "lavender",
    "lime",
    "limp",
    "lush",
    "magenta",
    "maroon",
    "mauve",
    "nude",
    "ochre",
    "ornate",
    "pastel",
    "plaid",
    "plump",
    "plush",
    "prone",
    "quaint",
    "retro",
    "scarce",
    "scarlet",
    "sepia",
    "shaggy",
    "sheer",
    "sleek",
    "slender",
    "sparse",
    "splendid",
    "squat",
    "stark",
    "stout",
    "supple",
    "taupe",
    "taut",
    "teal",
    "turquoise",
    "unfit",
    "upbeat",
    "upturned",
    "vintage",
    "wry",
];

/// Participles that describe when they stand before a noun.
pub(super) const PARTICIPLES: &[&str] = &[
    "abandoned",
    "bearded",
    "bent",
    "blooming",
    "broken",
    "burning",
    "cluttered",
    "colored",
    "coloured",
    "covered",
    "cracked",
    "crowded",
    "curled",
    "curved",
    "decorated",
    "faded",
    "fallen",
    "flowering",
    "folded",
    "framed",
    "frozen",
    "glowing",
    "hidden",
    "illuminated",
    "lined",
    "lit",
    "painted",
    "patterned",
    "pointed",
    "polished",
    "rolling",
    "ruined",
    "rusted",
    "scattered",
    "shaded",
    "shining",
    "sleeping",
    "smiling",
    "sparkling",
    "spotted",
    "stained",
    "striped",
    "sunken",
    "tattered",
    "torn",
    "towering",
    "twisted",
    "weathered",
    "winding",
    "worn",
    "wrinkled",
];

/// Endings of adjectives, for words outside the lexicon.
pub(super) const ADJECTIVE_ENDINGS: &[&str] = &[
    "able", "ible", "al", "ary", "ern", "esque", "ese", "eous", "free", "ful", "ian", "ic", "ile", "ish", "ive",
    "less", "like", "most", "oid", "ory", "ous", "proof", "some", "ular", "worthy",
];

/// Endings of nouns that would be taken for something else, for words outside the lexicon.
pub(super) const NOUN_ENDINGS: &[&str] = &[
    "age", "ance", "dom", "ence", "er", "ers", "ery", "hood", "ics", "ism", "ist", "ists", "itis", "ity", "ment",
    "ness", "ology", "or", "ors", "ship", "sion", "tion",
];

/// Prefixes that leave an adjective an adjective.
pub(super) const PREFIXES: &[&str] = &[
    "anti", "bi", "counter", "dis", "extra", "hyper", "im", "in", "inter", "ir", "mid", "multi", "non", "over", "post",
    "pre", "pro", "semi", "super", "tri", "ultra", "un", "under",
];

/// Last parts that make a hyphenated word an adjective before a noun.
pub(super) const HYPHEN_ADJECTIVES: &[&str] = &[
    "based", "class", "colored", "coloured", "down", "free", "in", "level", "like", "off", "old", "on", "out",
    "quality", "range", "scale", "shaped", "size", "sized", "style", "tech", "term", "time", "up",
];

/// Words that are adverbs, not adjectives, after a noun or verb when no noun phrase follows.
pub(super) const FLAT_ADVERBS: &[&str] = &[
    "best", "better", "close", "closer", "early", "earlier", "fast", "first", "further", "hard", "late", "later",
    "long", "longer", "straight", "worst",
];

/// Nouns that are adjectives before a noun.
pub(super) const HOMOGRAPHS: &[&str] = &["elastic", "female", "front", "future", "male", "top"];

/// Adjectives that are also verbs.
pub(super) const VERBS_TOO: &[&str] = &[
    "clean", "clear", "close", "complete", "cool", "dry", "empty", "free", "last", "narrow", "open", "own", "present",
    "slow", "warm", "welcome",
];

/// What an infinitive follows.
pub(super) const INFINITIVE: &[&str] =
    &["can", "could", "may", "might", "must", "shall", "should", "to", "will", "would"];

/// What follows `right` where it is an adverb (`right behind the car`).
pub(super) const AFTER_RIGHT: &[&str] = &[
    "across", "after", "at", "away", "before", "behind", "beside", "down", "here", "in", "next", "now", "off", "on",
    "out", "over", "there", "up",
];
