//! Which servers are offered together: from the command line, or from a TOML file.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::prefix::{Prefix, assign};
use crate::name::ServerName;

/// A whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The servers, by their prefixes.
    server: BTreeMap<String, Server>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    /// [AUTHORITY/]NAME; the prefix if nothing is said.
    name: Option<String>,
}

/// The servers of a file: `[server.PREFIX]`, each with `name = "[AUTHORITY/]NAME"` if that is
/// another.
///
/// # Errors
/// What is wrong with it.
pub fn read(file: &Path) -> Result<Vec<(Prefix, ServerName)>, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
    parse(&text).map_err(|error| format!("`{}`: {error}", file.display()))
}

fn parse(text: &str) -> Result<Vec<(Prefix, ServerName)>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let servers = file.server.into_iter().map(|(prefix, server)| {
        let name = server.name.as_ref().unwrap_or(&prefix);
        let name = ServerName::parse(name, "localhost").map_err(|error| error.to_string())?;
        Ok((Prefix::new(&prefix).map_err(|error| error.to_string())?, name))
    });
    servers.collect()
}

/// The servers that `[PREFIX=][AUTHORITY/]NAME` name, each with its prefix. `None` if it is one that
/// was given no prefix: it is offered as it is.
///
/// # Errors
/// What is wrong with them.
pub fn of_arguments(arguments: &[String]) -> Result<Named, String> {
    let mut servers = Vec::new();
    for argument in arguments {
        let (prefix, name) = match argument.split_once('=') {
            Some((prefix, name)) => {
                (Some(Prefix::new(prefix).map_err(|error| error.to_string())?), name)
            }
            None => (None, argument.as_str()),
        };
        let name = ServerName::parse(name, "localhost").map_err(|error| error.to_string())?;
        servers.push((prefix, name));
    }
    if let [(None, name)] = &servers[..] {
        return Ok(Named::One(name.clone()));
    }
    let given = servers.iter().map(|(prefix, name)| (prefix.clone(), &*name.server));
    let prefixes = assign(given).map_err(|error| error.to_string())?;
    let names = servers.into_iter().map(|(_, name)| name);
    Ok(Named::Several(prefixes.into_iter().zip(names).collect()))
}

/// The servers that an edge is to offer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Named {
    /// One, unchanged.
    One(ServerName),
    /// With prefixes.
    Several(Vec<(Prefix, ServerName)>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: &[(&str, &str)]) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let Named::Several(named) = of_arguments(&arguments).unwrap() else { panic!("one") };
        let named: Vec<_> = named.iter().map(|(p, n)| (p.to_string(), n.to_string())).collect();
        let named: Vec<_> = named.iter().map(|(p, n)| (p.as_str(), n.as_str())).collect();
        assert_eq!(named, expected);
    }

    #[test]
    fn arguments_name_servers() {
        let one = of_arguments(&["example.org/a".to_owned()]).unwrap();
        assert!(matches!(one, Named::One(name) if name.to_string() == "example.org/a"));
        check(&["p=a"], &[("p", "localhost/a")]);
        check(&["a", "b.org/a"], &[("a", "localhost/a"), ("a-2", "b.org/a")]);
        check(&["x=a", "b"], &[("x", "localhost/a"), ("b", "localhost/b")]);
        for wrong in [vec!["X=a"], vec!["x=a", "x=b"], vec!["x="], vec!["a", "A/b"]] {
            let wrong: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
            assert!(of_arguments(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_file_names_servers() {
        let named = parse("[server.files]\n[server.d]\nname = \"example.org/docs\"\n").unwrap();
        let named: Vec<_> = named.iter().map(|(p, n)| format!("{p}={n}")).collect();
        assert_eq!(named, ["d=example.org/docs", "files=localhost/files"]);
        for wrong in ["", "[server.A]", "[server.a]\nwhat = 1", "[server.a]\nname = \"/\"", "x = 1"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
