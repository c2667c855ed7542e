//! `make faults`: what befalls networks, machines and peers, on real sockets, in figures.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
};

use aip_tests::faults::{
    Agent, Figure, Goal, Role, Scale, Told, cases, json, table, target, world,
};

const USAGE: &str = "\
Usage: faults [--soak GROUPS] [--json FILE] [CASE...]
  Runs these cases, or all, at full size; --soak says how many groups the soak has (20,000).
  The goal of a figure stands beside it; the exit status is 1 if one is missed.
       faults publisher ADDRESS
  Publishes to a relay until it is killed. The case `publisher` does that.
       faults world ADDRESS
  Publishes and subscribes at a relay until its input ends. The case `stopped` does that.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["publisher", address] => publish(address),
        ["world", address] => live(address),
        ["--help" | "-h"] => say(USAGE).map(|()| true),
        _ => run(&arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            drop(writeln!(io::stderr(), "faults: {error}"));
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

fn run(arguments: &[String]) -> io::Result<bool> {
    let wrong = |what: &str| io::Error::other(format!("{what}\n{USAGE}"));
    let (mut soak, mut file, mut names) = (20_000, None, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| wrong("a value is missing"));
        match argument.as_str() {
            "--soak" => soak = value()?.parse().map_err(|_| wrong("--soak takes a number"))?,
            "--json" => file = Some(value()?),
            name if cases().iter().any(|case| case.name == name) => names.push(name),
            name => return Err(wrong(&format!("{name} is no case"))),
        }
    }
    let mut figures = Vec::new();
    for case in cases() {
        if names.is_empty() || names.contains(&case.name) {
            say(&format!("{}: {}", case.name, case.what))?;
            match (case.run)(Scale::full(soak)) {
                Ok(more) => figures.extend(more),
                Err(error) => {
                    writeln!(io::stderr(), "{}: {error}", case.name)?;
                    figures.push(Figure::count(case.name, "broken off", 1, Goal::AtMost(0.0)));
                }
            }
        }
    }
    say(&table(&figures))?;
    if let Some(file) = file {
        fs::write(Path::new(file), format!("{:#}\n", json(&figures)))?;
    }
    Ok(figures.iter().all(|figure| figure.is_met()))
}

fn parse(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|_| io::Error::other("that is no address"))
}

fn live(address: &str) -> io::Result<bool> {
    say(&world(parse(address)?)?).map(|()| true)
}

fn publish(address: &str) -> io::Result<bool> {
    let address = parse(address)?;
    let agent = Agent::new(Role::Publisher, vec![target(address)]);
    agent.wait("announcements", 1, |told| matches!(told, Told::Announced(_)))?;
    say("announced")?;
    loop {
        agent.listen(std::time::Duration::from_secs(3_600), |_| false);
    }
}
