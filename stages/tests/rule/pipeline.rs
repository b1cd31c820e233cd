//! Random pipelines over the sources, always valid, and what can be done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use proptest::prelude::*;

/// A step but for those that bring in the sources.
#[derive(Clone, Debug)]
pub struct Node {
    kind: Kind,
    /// Which of the datasets there are by then it takes.
    from: u8,
    /// Which of those a port for many takes besides.
    more: u8,
    /// Which of the parameters its stage has.
    variant: u8,
    matrix: bool,
    conditional: bool,
    settings: u8,
    renamed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Filter,
    Dedup,
    Resize,
    Split,
    Curriculum,
    Map,
    Rows,
    Files,
    Publish,
}

/// A pipeline.
#[derive(Clone, Debug)]
pub struct Pipeline {
    nodes: Vec<Node>,
    size: u8,
    comment: bool,
    backwards: bool,
    note: bool,
    /// What is given on the command line.
    pub set: Option<u8>,
    /// Whether the profile is in use.
    pub profile: bool,
}

/// Something that is done to a pipeline.
#[derive(Clone, Debug)]
pub enum Edit {
    Variant(u8, u8),
    Settings(u8, u8),
    Rename(u8),
    Matrix(u8),
    Condition(u8),
    Add(u8, Node),
    Remove(u8),
    Swap(u8, u8),
    Comment,
    Backwards,
    Note,
    Size(u8),
    Set(Option<u8>),
    Profile,
}

fn any_node() -> impl Strategy<Value = Node> {
    let kind = prop_oneof![
        3 => Just(Kind::Filter),
        2 => Just(Kind::Dedup),
        2 => Just(Kind::Resize),
        2 => Just(Kind::Split),
        2 => Just(Kind::Curriculum),
        1 => Just(Kind::Map),
        1 => Just(Kind::Rows),
        1 => Just(Kind::Files),
        1 => Just(Kind::Publish),
    ];
    let flag = || prop::bool::weighted(0.2);
    (kind, any::<(u8, u8)>(), 0..12_u8, flag(), flag(), 0..6_u8).prop_map(
        |(kind, (from, more), variant, matrix, conditional, settings)| Node {
            kind,
            from,
            more,
            variant,
            matrix,
            conditional,
            settings,
            renamed: false,
        },
    )
}

pub fn any_pipeline() -> impl Strategy<Value = Pipeline> {
    (prop::collection::vec(any_node(), 1..7), 1..6_u8).prop_map(|(nodes, size)| Pipeline {
        nodes,
        size,
        comment: false,
        backwards: false,
        note: false,
        set: None,
        profile: false,
    })
}

pub fn any_edit() -> impl Strategy<Value = Edit> {
    let at = any::<u8>;
    prop_oneof![
        3 => (at(), 0..12_u8).prop_map(|(at, variant)| Edit::Variant(at, variant)),
        1 => (at(), 0..6_u8).prop_map(|(at, settings)| Edit::Settings(at, settings)),
        1 => at().prop_map(Edit::Rename),
        1 => at().prop_map(Edit::Matrix),
        1 => at().prop_map(Edit::Condition),
        2 => (at(), any_node()).prop_map(|(at, node)| Edit::Add(at, node)),
        2 => at().prop_map(Edit::Remove),
        1 => (at(), at()).prop_map(|(a, b)| Edit::Swap(a, b)),
        1 => Just(Edit::Comment),
        1 => Just(Edit::Backwards),
        1 => Just(Edit::Note),
        1 => (1..6_u8).prop_map(Edit::Size),
        1 => prop::option::of(1..6_u8).prop_map(Edit::Set),
        1 => Just(Edit::Profile),
    ]
}

impl Pipeline {
    pub fn apply(&mut self, edit: &Edit) {
        let count = self.nodes.len();
        let place = |at: &u8| usize::from(*at) % count;
        match edit {
            Edit::Variant(at, variant) => self.nodes[place(at)].variant = *variant,
            Edit::Settings(at, settings) => self.nodes[place(at)].settings = *settings,
            Edit::Rename(at) => self.nodes[place(at)].renamed ^= true,
            Edit::Matrix(at) => self.nodes[place(at)].matrix ^= true,
            Edit::Condition(at) => self.nodes[place(at)].conditional ^= true,
            Edit::Add(at, node) => self.nodes.insert(usize::from(*at) % (count + 1), node.clone()),
            Edit::Remove(at) if count > 1 => drop(self.nodes.remove(place(at))),
            Edit::Remove(_) => {}
            Edit::Swap(a, b) => self.nodes.swap(place(a), place(b)),
            Edit::Comment => self.comment ^= true,
            Edit::Backwards => self.backwards ^= true,
            Edit::Note => self.note ^= true,
            Edit::Size(size) => self.size = *size,
            Edit::Set(set) => self.set = *set,
            Edit::Profile => self.profile ^= true,
        }
    }

    /// The value of its parameter, as it is used.
    fn size(&self) -> u8 {
        self.set.unwrap_or(if self.profile { 4 } else { self.size })
    }

    /// The text of the pipeline. `records` is the file of records.
    pub fn text(&self, records: &str) -> String {
        let mut blocks = sources(records, self.note);
        let mut wires = first_wires(self.note);
        for (at, node) in self.nodes.iter().enumerate() {
            let name = format!("s{at}{}", if node.renamed { "x" } else { "" });
            let exists = !node.conditional || self.size() > 2;
            let (block, gives) = Writer { node, name: &name, wires: &wires }.step();
            blocks.push(block);
            if exists {
                wires.extend(gives);
            }
        }
        if self.backwards {
            blocks.reverse();
        }
        let comment = if self.comment { "# a comment\n" } else { "" };
        let head = format!("{comment}name = \"p\"\n\n[params]\nsize = {}\n\n[profiles.other]\nsize = 4\n\n", self.size);
        head + &blocks.join("\n")
    }
}

fn sources(records: &str, note: bool) -> Vec<String> {
    let note = if note { ", note = \"int\"" } else { "" };
    vec![
        format!(
            "[steps.texts]\nstage = \"download\"\nsource = \"{records}\"\nid = \"id\"\n\
             columns = {{ caption = \"text\", n = \"int\", tag = \"text\"{note} }}\n"
        ),
        "[steps.table]\nstage = \"download\"\nsource = \"table.csv\"\nid = \"key\"\n\
         columns = { caption = \"text\", n = \"int\", tag = \"text\" }\n"
            .to_owned(),
        "[steps.photos]\nstage = \"download\"\nsource = \"photos\"\nformat = \"images\"\n".to_owned(),
    ]
}

/// A dataset that steps can take.
#[derive(Clone, Debug)]
struct Wire {
    from: String,
    /// All of a matrix, for a port that takes many.
    all: Option<String>,
    columns: BTreeMap<String, &'static str>,
}

fn first_wires(note: bool) -> Vec<Wire> {
    let wire = |from: &str, columns: &[(&str, &'static str)]| Wire {
        from: from.to_owned(),
        all: None,
        columns: columns.iter().map(|(name, column_type)| ((*name).to_owned(), *column_type)).collect(),
    };
    let texts = [("caption", "text"), ("n", "int"), ("tag", "text"), ("note", "int")];
    vec![
        wire("texts", &texts[..if note { 4 } else { 3 }]),
        wire("photos", &[("image", "image"), ("label", "text")]),
        wire("table", &texts[..3]),
    ]
}

/// Writes one step.
struct Writer<'a> {
    node: &'a Node,
    name: &'a str,
    wires: &'a [Wire],
}

impl Writer<'_> {
    /// The text of the step, and what it gives.
    fn step(&self) -> (String, Vec<Wire>) {
        let wire = &self.wires[usize::from(self.node.from) % self.wires.len()];
        let image = self.column(wire, &["image"]);
        match (self.node.kind, image) {
            (Kind::Resize, Some(image)) => self.resize(wire, &image),
            (Kind::Filter | Kind::Resize, _) => self.filter(wire),
            (Kind::Dedup, _) => self.dedup(wire),
            (Kind::Split, _) => self.split(wire),
            (Kind::Curriculum, _) => self.curriculum(wire),
            (Kind::Map, _) => self.map(wire),
            (Kind::Rows, _) => self.rows(wire),
            (Kind::Files, _) => (self.files(), Vec::new()),
            (Kind::Publish, _) => (self.publish(), Vec::new()),
        }
    }

    /// One of the columns of these types.
    fn column(&self, wire: &Wire, types: &[&str]) -> Option<String> {
        let columns: Vec<&String> =
            wire.columns.iter().filter(|(_, t)| types.contains(t)).map(|(name, _)| name).collect();
        columns.get(usize::from(self.node.variant).checked_rem(columns.len())?).map(|name| (*name).clone())
    }

    /// A number: of a matrix, of the parameter, or written.
    fn number(&self) -> String {
        match (self.node.matrix, self.node.variant % 3) {
            (true, _) => "${k}".to_owned(),
            (false, 0) => "${size}".to_owned(),
            (false, n) => (n + 1).to_string(),
        }
    }

    /// The head of a step that takes one dataset. Those without a use for a number have no matrix over it.
    fn head(&self, stage: &str, port: &str, wire: &Wire) -> String {
        let inputs = format!("inputs = {{ {port} = \"{}\" }}\n", wire.from);
        self.begin(stage) + &inputs
    }

    fn begin(&self, stage: &str) -> String {
        let mut text = format!("[steps.{}]\nstage = \"{stage}\"\n", self.name);
        if self.node.conditional {
            text += "when = \"size > 2\"\n";
        }
        text += match (self.node.settings, stage) {
            (1, "filter" | "resize" | "dedup" | "split" | "curriculum" | "map") => "max_failed_rows = \"40%\"\n",
            (2, "filter" | "resize" | "dedup" | "split" | "curriculum" | "map") => {
                "expect = [{ that = \"rows.kept > 3\", otherwise = \"warn\" }]\n"
            }
            (3, _) => "retries = 1\ntimeout = \"10m\"\n",
            _ => "",
        };
        text
    }

    /// What a step with a matrix over `k` gives, or one without.
    fn gives(&self, port: &str, columns: BTreeMap<String, &'static str>) -> Vec<Wire> {
        let wire = |instance: &str| Wire {
            from: format!("{}{instance}{port}", self.name),
            all: self.node.matrix.then(|| format!("{}[*]{port}", self.name)),
            columns: columns.clone(),
        };
        if self.node.matrix { vec![wire("[k=1]"), wire("[k=3]")] } else { vec![wire("")] }
    }

    fn matrix(&self) -> &'static str {
        if self.node.matrix { "matrix = { k = [1, 3] }\n" } else { "" }
    }

    fn filter(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let number = self.number();
        let keep = match self.column(wire, &["text", "int", "image", "float"]) {
            Some(name) => match wire.columns[&name] {
                "text" => format!("size({name}) > {number}"),
                "image" => format!("{name}.width >= {number}"),
                _ => format!("{name} != {number}"),
            },
            None => format!("size(id) > {number}"),
        };
        let mut text = self.head("filter", "rows", wire) + self.matrix();
        let _ = writeln!(text, "keep = \"{keep}\"");
        if let (Some(image), 3..) = (self.column(wire, &["image"]), self.node.variant) {
            let broken = ["drop", "fail", "keep"][usize::from(self.node.variant) % 3];
            let _ = writeln!(text, "image = \"{image}\"\nbroken = \"{broken}\"");
        }
        (text, self.gives("", wire.columns.clone()))
    }

    fn resize(&self, wire: &Wire, image: &str) -> (String, Vec<Wire>) {
        let (fit, format) = [("pad", "png"), ("crop", "jpeg"), ("stretch", "png")][usize::from(self.node.variant) % 3];
        let output = if self.node.variant.is_multiple_of(2) { image } else { "thumb" };
        let text = format!(
            "{}{}size = {}\nimage = \"{image}\"\noutput = \"{output}\"\nfit = \"{fit}\"\nformat = \"{format}\"\n",
            self.head("resize", "images", wire),
            self.matrix(),
            if self.node.matrix { "\"${k}\"".to_owned() } else { "\"${size}\"".to_owned() },
        );
        let mut columns = wire.columns.clone();
        columns.insert(output.to_owned(), "image");
        (text, self.gives("", columns))
    }

    fn dedup(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let Some(by) = self.column(wire, &["text", "int", "image", "float"]) else { return self.filter(wire) };
        let text = self.head("dedup", "rows", wire) + &format!("by = [\"{by}\"]\n");
        (text, self.single("", wire.columns.clone()))
    }

    /// What a step gives that has no matrix.
    fn single(&self, port: &str, columns: BTreeMap<String, &'static str>) -> Vec<Wire> {
        vec![Wire { from: format!("{}{port}", self.name), all: None, columns }]
    }

    fn split(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let variant = self.node.variant;
        let method = ["rank", "threshold"][usize::from(variant) % 2];
        let parts = if variant.is_multiple_of(3) { "{ a = 0.3, b = 0.3, c = 0.4 }" } else { "{ a = 0.5, b = 0.5 }" };
        let mut text = self.head("split", "rows", wire) + &format!("parts = {parts}\nmethod = \"{method}\"\n");
        if let (Some(group), true) = (self.column(wire, &["text", "int", "image"]), variant > 5) {
            let _ = writeln!(text, "group = \"{group}\"");
        }
        let instance = if self.node.matrix { "[replicate=1]" } else { "" };
        text += if self.node.matrix { "replicates = 2\n" } else { "seed = 7\n" };
        let part = |port: &str| Wire {
            from: format!("{}{instance}.{port}", self.name),
            all: self.node.matrix.then(|| format!("{}[*].{port}", self.name)),
            columns: wire.columns.clone(),
        };
        (text, vec![part("a"), part("b")])
    }

    fn curriculum(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let variant = self.node.variant;
        let difficulty = match self.column(wire, &["text", "int"]) {
            Some(name) if wire.columns[&name] == "text" => format!("size({name})"),
            Some(name) => name,
            None => "size(id)".to_owned(),
        };
        let phases = match variant % 3 {
            0 => "[{ name = \"easy\", up_to = 2 }, { name = \"hard\" }]".to_owned(),
            1 => "[{ name = \"easy\", share = 0.5 }, { name = \"hard\", share = 0.5 }]".to_owned(),
            _ => "[{ name = \"easy\", share = 0.2 }, { name = \"so\", share = 0.3 }, { name = \"hard\", share = 0.5 }]"
                .to_owned(),
        };
        let mut text = self.head("curriculum", "rows", wire);
        let _ = writeln!(text, "difficulty = \"{difficulty}\"\nphases = {phases}");
        let mut columns = wire.columns.clone();
        columns.extend([
            ("phase".to_owned(), "text"),
            ("phase_index".to_owned(), "int"),
            ("difficulty".to_owned(), "float"),
        ]);
        if variant > 7 {
            text += "weights = [{ when = \"size(id) > 3\", weight = 0.5 }]\n";
            columns.insert("weight".to_owned(), "float");
        }
        (text, self.single("", columns))
    }

    fn map(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let reads = self.column(wire, &["text", "int"]).map(|name| format!("\"{name}\"")).unwrap_or_default();
        let length = "echo \"{\\\"length\\\": $(printf %s \"$l\" | wc -c)}\"";
        let choosy = "case \"$l\" in *7*) echo '{\"drop\": \"seven\"}';; *9*) echo '{\"fail\": \"nine\"}';; *)";
        let answer =
            if self.node.variant.is_multiple_of(2) { format!("{choosy} {length};; esac") } else { length.to_owned() };
        let text = self.head("map", "rows", wire)
            + &format!(
                "reads = [{reads}]\nwrites = {{ length = \"int\" }}\nprograms = 1\n\
                 run = [\"sh\", \"-c\", '''while read -r l; do {answer}; done''']\n"
            );
        let mut columns = wire.columns.clone();
        columns.insert("length".to_owned(), "int");
        (text, self.single("", columns))
    }

    /// A program that makes a dataset of a dataset.
    fn rows(&self, wire: &Wire) -> (String, Vec<Wire>) {
        let mut columns = wire.columns.clone();
        columns.retain(|_, column_type| *column_type != "image");
        let declared: Vec<String> = columns.iter().map(|(name, t)| format!("{name} = \"{t}\"")).collect();
        let more = if self.node.variant.is_multiple_of(3) { "; echo torn" } else { "" };
        let text = self.head("command", "rows", wire)
            + &format!(
                "outputs = {{ made = \"dataset\" }}\ncolumns = {{ made = {{ {} }} }}\n\
                 run = [\"sh\", \"-c\", \"(grep -v {} {{in}}/rows/rows.jsonl{more}) > {{out}}/made/rows.jsonl; true\"]\n",
                declared.join(", "),
                1 + self.node.variant % 4,
            );
        (text, self.single("", columns))
    }

    /// Several datasets, as written for a port that takes many. One that is all of a matrix is taken whole.
    fn several(&self) -> String {
        let taken = [self.node.from, self.node.more, self.node.more.wrapping_mul(7)];
        let wire = |at: &u8| &self.wires[usize::from(*at) % self.wires.len()];
        if let (Some(all), 0..4) = (&wire(&taken[0]).all, self.node.variant) {
            return format!("\"{all}\"");
        }
        let names: BTreeSet<&str> = taken.iter().map(|at| wire(at).from.as_str()).collect();
        if self.node.variant.is_multiple_of(2) {
            let labelled: Vec<String> =
                names.iter().enumerate().map(|(at, name)| format!("l{at} = \"{name}\"")).collect();
            return format!("{{ {} }}", labelled.join(", "));
        }
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("[{}]", quoted.join(", "))
    }

    fn files(&self) -> String {
        format!(
            "{}inputs = {{ all = {} }}\noutputs = {{ made = \"files\" }}\n\
             run = [\"sh\", \"-c\", \"sh tool.sh {{in}} > {{out}}/made/sums\"]\nfiles = [\"tool.sh\"]\n",
            self.begin("command"),
            self.several()
        )
    }

    fn publish(&self) -> String {
        let text = self.begin("publish") + &format!("inputs = {{ data = {} }}\n", self.several());
        text + &format!("name = \"release-{}\"\nlicense = \"mit\"\n", self.node.variant)
    }
}
