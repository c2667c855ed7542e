//! `make requirements`: what the drafts demand, how much of it is kept, and what is not.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use aip_tests::requirements::{missing, parse, report};

fn main() -> ExitCode {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().unwrap_or(tests);
    let (text, errors) = match fs::read_to_string(tests.join("requirements/requirements.tsv")) {
        Err(error) => (String::new(), vec![error.to_string()]),
        Ok(table) => match parse(&table) {
            Err(errors) => (String::new(), errors),
            Ok(requirements) => (report(&requirements), missing(root, &requirements)),
        },
    };
    let said = io::stdout().write_all(text.as_bytes());
    for error in &errors {
        drop(writeln!(io::stderr(), "{error}"));
    }
    if errors.is_empty() && said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
