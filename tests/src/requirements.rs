//! The table of what the drafts demand: read, compared with code and tests, told in numbers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// One demand of the drafts, in our words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Requirement {
    /// Its name in this project.
    pub id: String,
    /// The section of draft 22 that demands it.
    pub section: String,
    /// How strongly.
    pub level: String,
    /// How far it is kept.
    pub state: State,
    /// Where: path and symbol.
    pub code: Vec<String>,
    /// What shows it: target, modules, name.
    pub tests: Vec<String>,
    /// What it says.
    pub text: String,
}

/// How far a requirement is kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Wholly; code and test are named.
    Kept,
    /// In part; the text says which part is missing.
    Partly,
    /// Not at all.
    Not,
}

impl State {
    const ALL: [Self; 3] = [Self::Kept, Self::Partly, Self::Not];

    /// Its word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Partly => "partly",
            Self::Not => "not",
        }
    }
}

const HEADER: &str = "id\tsection\tlevel\tstate\tcode\ttest\ttext";
const LEVELS: [&str; 5] = ["MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY"];
/// Words before what is defined.
const KEYWORDS: [&str; 8] = ["fn", "struct", "enum", "const", "static", "mod", "trait", "type"];
/// What stands in a column that has nothing.
const NOTHING: &str = "-";

/// Reads a table.
///
/// # Errors
/// Every line that is none, with its number.
pub fn parse(table: &str) -> Result<Vec<Requirement>, Vec<String>> {
    let mut lines = table.lines().enumerate();
    let mut errors = Vec::new();
    if lines.next().map(|(_, line)| line) != Some(HEADER) {
        errors.push(format!("line 1 is not the header {HEADER:?}"));
    }
    let mut requirements = Vec::new();
    let mut ids = BTreeSet::new();
    for (index, line) in lines {
        match requirement(line) {
            Ok(requirement) if !ids.insert(requirement.id.clone()) => {
                errors.push(format!("line {}: {} stands there twice", index + 1, requirement.id));
            }
            Ok(requirement) => requirements.push(requirement),
            Err(error) => errors.push(format!("line {}: {error}", index + 1)),
        }
    }
    if errors.is_empty() { Ok(requirements) } else { Err(errors) }
}

fn requirement(line: &str) -> Result<Requirement, String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [id, section, level, state, code, tests, text] = columns[..] else {
        return Err(format!("{} columns instead of 7", columns.len()));
    };
    let is_section = section.split('.').all(|number| number.parse::<u8>().is_ok());
    if id.is_empty() || text.is_empty() || !is_section {
        return Err("no id, no section or no text".to_owned());
    }
    if !LEVELS.contains(&level) {
        return Err(format!("{level} is no level"));
    }
    let state = State::ALL.into_iter().find(|known| known.name() == state);
    let state = state.ok_or_else(|| "no state".to_owned())?;
    let list = |column: &str| -> Vec<String> {
        column.split(' ').filter(|word| *word != NOTHING).map(str::to_owned).collect()
    };
    let (code, tests) = (list(code), list(tests));
    match state {
        State::Kept | State::Partly if code.is_empty() || tests.is_empty() => {
            return Err(format!("{id} is {}, and no code or no test shows it", state.name()));
        }
        State::Not if !code.is_empty() || !tests.is_empty() => {
            return Err(format!("{id} is not kept, and has code or tests"));
        }
        State::Kept | State::Partly | State::Not => {}
    }
    let (id, section, level) = (id.to_owned(), section.to_owned(), level.to_owned());
    Ok(Requirement { id, section, level, state, code, tests, text: text.to_owned() })
}

/// What the table names and `root`, the repository, does not have.
pub fn missing(root: &Path, requirements: &[Requirement]) -> Vec<String> {
    let mut sources = Sources { root, texts: BTreeMap::new() };
    let mut missing = Vec::new();
    for requirement in requirements {
        let id = &requirement.id;
        for place in &requirement.code {
            if !sources.has_symbol(place) {
                missing.push(format!("{id}: no code {place}"));
            }
        }
        for test in &requirement.tests {
            if !sources.has_test(test) {
                missing.push(format!("{id}: no test {test}"));
            }
        }
    }
    missing
}

/// Files, each read once.
struct Sources<'a> {
    root: &'a Path,
    texts: BTreeMap<String, Option<String>>,
}

impl Sources<'_> {
    fn text(&mut self, path: &str) -> Option<&str> {
        let read = || fs::read_to_string(self.root.join(path)).ok();
        self.texts.entry(path.to_owned()).or_insert_with(read).as_deref()
    }

    /// `path:symbol`.
    fn has_symbol(&mut self, place: &str) -> bool {
        let Some((path, symbol)) = place.rsplit_once(':') else { return false };
        self.text(path).is_some_and(|text| text.lines().any(|line| defines(line, symbol)))
    }

    /// `target::module::name`.
    fn has_test(&mut self, test: &str) -> bool {
        let mut words: Vec<&str> = test.split("::").collect();
        let Some(name) = words.pop() else { return false };
        if words.is_empty() {
            return false;
        }
        let folder = match words.remove(0) {
            "aip-engine" => "engine/src".to_owned(),
            "aip-codec" => "codec/src".to_owned(),
            target => format!("tests/{target}"),
        };
        if words.last() == Some(&"tests") && folder.ends_with("src") {
            words.pop();
        }
        let module = [folder.as_str()].into_iter().chain(words).collect::<Vec<_>>().join("/");
        let paths = ["", "/mod", "/main", "/tests"].map(|end| format!("{module}{end}.rs"));
        paths.iter().any(|path| self.text(path).is_some_and(|text| is_test(text, name)))
    }
}

/// Whether `line` defines `symbol`: after a keyword, or as a variant or an entry of a table.
fn defines(line: &str, symbol: &str) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let words: Vec<&str> = line.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| KEYWORDS.contains(&pair[0]) && pair[1] == symbol)
        || words.first() == Some(&symbol) && !line.trim_start().starts_with("//")
}

fn is_test(text: &str, name: &str) -> bool {
    let mut is_marked = false;
    text.lines().map(str::trim).any(|line| {
        if line == "#[test]" {
            is_marked = true;
        } else if !line.starts_with("#[") {
            let signature = format!("fn {name}(");
            let found = is_marked && line.trim_start_matches("pub ").starts_with(&signature);
            is_marked = false;
            return found;
        }
        false
    })
}

/// The table in numbers, and what is not wholly kept.
pub fn report(requirements: &[Requirement]) -> String {
    let mut report = String::from("level       kept  partly  not  all\n");
    let row = |name: &str, of: &[&Requirement]| {
        let count = |state| of.iter().filter(|it| it.state == state).count();
        let [kept, partly, not] = State::ALL.map(count);
        format!("{name:10} {kept:5} {partly:7} {not:4} {:4}\n", of.len())
    };
    for level in LEVELS {
        let of: Vec<_> = requirements.iter().filter(|it| it.level == level).collect();
        report.push_str(&row(level, &of));
    }
    report.push_str(&row("all", &requirements.iter().collect::<Vec<_>>()));
    for state in [State::Partly, State::Not] {
        report.push_str(&format!("\n{}:\n", state.name()));
        for it in requirements.iter().filter(|it| it.state == state) {
            report.push_str(&format!("  {:10} {:9} {}\n", it.level, it.section, it.text));
        }
    }
    report
}
