//! The table of requirements names code and tests that are there.

use std::path::Path;

use aip_tests::requirements::{State, missing, parse, report};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

#[test]
fn what_the_table_names_is_there() {
    let requirements = parse(include_str!("requirements.tsv")).unwrap();
    assert_eq!(missing(root(), &requirements), Vec::<String>::new());
    let report = report(&requirements);
    for requirement in requirements.iter().filter(|it| it.state != State::Kept) {
        assert!(report.contains(&requirement.text));
    }
}

#[test]
fn a_row_that_claims_what_is_not_there_is_found() {
    let table = |rows: &str| format!("id\tsection\tlevel\tstate\tcode\ttest\ttext\n{rows}");
    let code = "codec/src/moqt/varint.rs:decode";
    let test = "requirements::what_the_table_names_is_there";
    let sound = table(&format!("a\t8.1\tMUST\tkept\t{code}\t{test}\tText."));
    assert_eq!(missing(root(), &parse(&sound).unwrap()), Vec::<String>::new());
    for (from, to) in [
        ("varint.rs", "none.rs"),
        (":decode", ":never"),
        ("the_table_names", "nobody_names"),
        ("requirements::what", "simulation::what"),
    ] {
        let table = sound.replace(from, to);
        assert_eq!(missing(root(), &parse(&table).unwrap()).len(), 1, "{to}");
    }
    for broken in [
        &format!("a\t8.1\tMUST\tkept\t-\t{test}\tText."),
        &format!("a\t8.1\tMUST\tkept\t{code}\t-\tText."),
        &format!("a\t8.1\tMUST\tnot\t{code}\t-\tText."),
        &format!("a\t8.1\tWILL\tkept\t{code}\t{test}\tText."),
        &format!("a\t8.x\tMUST\tkept\t{code}\t{test}\tText."),
        &format!("a\t8.1\tMUST\tdone\t{code}\t{test}\tText."),
        "a\t8.1\tMUST\tnot\t-\t-\t",
        "a\t8.1\tMUST\tnot\t-\t-\tx\na\t8.2\tMUST\tnot\t-\t-\ty",
    ] {
        assert!(parse(&table(broken)).is_err(), "{broken}");
    }
}
