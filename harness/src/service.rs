//! Somebody else's implementation in the place of the program under test.
//!
//! A team that owns a service of the same contract names its command; it is started in the environment, with the same
//! variables and at the same port as ours, and every story speaks with it. What it cannot be asked, because only our
//! own program knows the variable, is known from the description: [`ContractSpec`].
//!
//! The command is told to a shell in the directory of whoever named it, so what works there works here. An image is run
//! by its own command, in the network of the environment's containers; it must listen on all addresses there.
//!
//! A service that somebody starts by hand, in a debugger for instance, is named by its address; [`elsewhere`] sees to
//! it that it was started for the environment.

pub mod elsewhere;

use std::path::{Path, PathBuf};

use crate::binaries::{self, BinariesError, GREENROOM};
use crate::spec::{ContractSpec, ProgramSpec, Spec};
use elsewhere::Elsewhere;

/// The command, for whatever runs below `cargo xtask test --service`.
pub const SERVICE_VARIABLE: &str = "GREENROOM_SERVICE";
/// The image, for whatever runs below `cargo xtask test --service-image`.
pub const SERVICE_IMAGE_VARIABLE: &str = "GREENROOM_SERVICE_IMAGE";
/// The address of one that somebody starts by hand, for whatever runs below `cargo xtask test --service-address`.
pub const SERVICE_ADDRESS_VARIABLE: &str = "GREENROOM_SERVICE_ADDRESS";
/// The file that its variables are written to.
pub const SERVICE_FILE_VARIABLE: &str = "GREENROOM_SERVICE_FILE";
/// Where the command was named, in which it runs.
pub const SERVICE_DIRECTORY_VARIABLE: &str = "GREENROOM_SERVICE_DIRECTORY";
/// Its fixed HTTP port, if it has one.
pub const SERVICE_PORT_VARIABLE: &str = "GREENROOM_SERVICE_PORT";

/// Somebody else's service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What is run.
    pub runs: Runs,
    /// Its HTTP port where that cannot be chosen by `PORT`.
    pub port: Option<u16>,
}

/// How somebody else's service is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    /// By a shell.
    Command {
        /// What the shell is told; a template like every other command, so `{port}` stands for its HTTP port.
        command: String,
        /// Where it runs.
        directory: PathBuf,
    },
    /// In a container of this image.
    Image(String),
    /// Somebody starts it, when its environment stands.
    Elsewhere(Elsewhere),
}

/// Why a service cannot take the place of the program under test.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// There is nobody whose place it could take, or there are several.
    #[error(
        "a service takes the place of the one program under test that has a contract; {system} has {}",
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    )]
    NoPlace {
        /// The system.
        system: String,
        /// The programs that have a contract.
        found: Vec<String>,
    },
    /// It is not known where the command runs.
    #[error("{SERVICE_VARIABLE} is set and {SERVICE_DIRECTORY_VARIABLE} is not")]
    NoDirectory,
    /// The port is no port.
    #[error("{SERVICE_PORT_VARIABLE} is {0:?}; expected a port from 1 to 65535")]
    Port(String),
    /// The address is none.
    #[error("{SERVICE_ADDRESS_VARIABLE} is {at:?}; {expected}")]
    Address {
        /// What was named.
        at: String,
        /// What could be.
        expected: String,
    },
    /// It is not known where the variables go.
    #[error("{SERVICE_ADDRESS_VARIABLE} is set and {SERVICE_FILE_VARIABLE} is not")]
    NoFile,
    /// What takes its place is missing.
    #[error("failed to find what takes the place of the service")]
    Binaries(#[from] BinariesError),
}

impl Service {
    /// The service that this run is about, if it is about one.
    ///
    /// # Errors
    /// Its port or address is none, or it is not known where it runs.
    pub fn of_this_run() -> Result<Option<Self>, ServiceError> {
        let named = |variable| std::env::var(variable).ok();
        let runs = if let Some(image) = named(SERVICE_IMAGE_VARIABLE) {
            Runs::Image(image)
        } else if let Some(at) = named(SERVICE_ADDRESS_VARIABLE) {
            let variables = std::env::var_os(SERVICE_FILE_VARIABLE).ok_or(ServiceError::NoFile)?.into();
            let address = elsewhere::address(&at).map_err(|expected| ServiceError::Address { at, expected })?;
            Runs::Elsewhere(Elsewhere { at: address, variables })
        } else if let Some(command) = named(SERVICE_VARIABLE) {
            let directory = std::env::var_os(SERVICE_DIRECTORY_VARIABLE).ok_or(ServiceError::NoDirectory)?;
            Runs::Command { command, directory: directory.into() }
        } else {
            return Ok(None);
        };
        let port = match std::env::var(SERVICE_PORT_VARIABLE) {
            Ok(text) => Some(text.parse().ok().filter(|port| *port > 0).ok_or(ServiceError::Port(text))?),
            Err(_) => None,
        };
        Ok(Some(Self { runs, port }))
    }

    /// Lets the service run instead of the program under test, and answers that program's contract.
    ///
    /// # Errors
    /// No program, or more than one, has a contract; or what takes its place is missing.
    pub fn take_the_place(&self, spec: &mut Spec) -> Result<ContractSpec, ServiceError> {
        let mut with_contract: Vec<&mut ProgramSpec> =
            spec.programs.iter_mut().filter(|program| program.contract.is_some()).collect();
        let found = with_contract.iter().map(|program| program.name.clone()).collect();
        let (Some(program), true) = (with_contract.pop(), with_contract.is_empty()) else {
            return Err(ServiceError::NoPlace { system: spec.name.clone(), found });
        };
        let contract = program.contract.clone().unwrap_or_default();
        // Whatever ran there, in whatever way, does no more.
        (program.binary, program.image, program.directory) = (None, None, None);
        program.command.clear();
        // Those are our own program's.
        program.faults.clear();
        program.failpoints = None;
        program.replaced = true;
        match &self.runs {
            Runs::Command { command, directory } => {
                // A shell that is told one command makes way for it; of several, signals reach shell and command alike.
                program.command = ["/bin/sh", "-c", command].map(str::to_owned).to_vec();
                program.directory = Some(directory.clone());
            }
            Runs::Image(image) => program.image = Some(image.clone()),
            Runs::Elsewhere(elsewhere) => {
                program.command = stand_in(&binaries::built()?.join(GREENROOM), elsewhere);
                program.elsewhere = true;
            }
        }
        program.port = match &self.runs {
            // One that listens at every address would be in the way of what stands in for it.
            Runs::Elsewhere(elsewhere) if elsewhere.at.port() == program.port => program.port.saturating_sub(1).max(1),
            _ => self.port.unwrap_or(program.port),
        };
        program.ready.clone_from(&contract.ready);
        // A producer of transactions leaves records of its own between those that consumers see.
        spec.observe.gaps.extend(spec.kafka.iter().flat_map(|kafka| &kafka.topics).map(|topic| topic.name.clone()));
        Ok(contract)
    }
}

/// The command of what takes the place of a service that runs elsewhere, as a template.
fn stand_in(greenroom: &Path, Elsewhere { at, variables }: &Elsewhere) -> Vec<String> {
    let plain = |path: &Path| path.display().to_string().replace('{', "{{").replace('}', "}}");
    let (greenroom, variables, at) = (plain(greenroom), plain(variables), at.to_string());
    let words = [&greenroom, "stand-in", "--place", "{bind}:{port}", "--at", &at, "--variables", &variables];
    words.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::spec::read_str;

    fn described(contract: &str) -> Spec {
        let text = format!(
            "name = \"shop\"\n[[programs]]\nname = \"shop\"\nbinary = \"shop\"\nport = 3000\nunder_test = true\n{contract}"
        );
        read_str(Path::new("environment.toml"), &text).expect("a right description")
    }

    #[test]
    fn a_service_runs_instead_of_the_program_with_a_contract() {
        let faults = "faults = { flood = { path = \"/flood\" } }\n";
        let mut spec = described(&format!("contract = {{ ready = \"/goods\", variables = [\"PORT\"] }}\n{faults}"));
        let service = Service {
            runs: Runs::Command { command: "npm start -- --port {port}".to_owned(), directory: "/srv/shop".into() },
            port: Some(8080),
        };
        let contract = service.take_the_place(&mut spec).expect("there is a place");
        let program = &spec.programs[0];
        assert_eq!(program.command, ["/bin/sh", "-c", "npm start -- --port {port}"]);
        assert_eq!(program.directory.as_deref(), Some(Path::new("/srv/shop")));
        assert_eq!((&program.binary, program.port, program.ready.as_str()), (&None, 8080, "/goods"));
        assert!(program.replaced && program.faults.is_empty(), "it has no routes of ours");
        assert_eq!(contract.variables, ["PORT"]);
    }

    #[test]
    fn an_image_runs_instead_of_it_too() {
        let mut spec = described("contract = { ready = \"/goods\", variables = [\"PORT\"] }\n");
        let service = Service { runs: Runs::Image("shop:1".to_owned()), port: None };
        service.take_the_place(&mut spec).expect("there is a place");
        let program = &spec.programs[0];
        assert_eq!((&program.binary, program.command.len(), program.image.as_deref()), (&None, 0, Some("shop:1")));
        assert_eq!(program.port, 3000);
    }

    /// Goal: it takes the place of a program that is no binary of the workspace too, as most systems' are.
    #[test]
    fn it_runs_instead_of_a_command_or_an_image() {
        let contract = "contract = { ready = \"/goods\", variables = [\"PORT\"] }\n";
        for ours in ["command = [\"npm\", \"start\"]\ndirectory = \"/srv/shop\"", "image = \"shop:0\""] {
            for (runs, ways) in [
                (Runs::Image("shop:1".to_owned()), (0, Some("shop:1"))),
                (Runs::Command { command: "node shop".to_owned(), directory: "/".into() }, (3, None)),
            ] {
                let shop = "name = \"shop\"\nport = 3000\nunder_test = true";
                let text = format!("name = \"shop\"\n[[programs]]\n{shop}\n{ours}\n{contract}");
                let mut spec = read_str(Path::new("environment.toml"), &text).expect("a right description");
                Service { runs, port: None }.take_the_place(&mut spec).expect("there is a place");
                let program = &spec.programs[0];
                assert_eq!((program.command.len(), program.image.as_deref()), ways, "instead of {ours}");
                assert_eq!(crate::spec::meaningless(&spec), None, "instead of {ours}");
            }
        }
    }

    #[test]
    fn one_that_runs_elsewhere_has_something_in_its_place() {
        let elsewhere = Elsewhere { at: "127.0.0.1:8080".parse().expect("an address"), variables: "/a {b}/f".into() };
        let command = stand_in(Path::new("/bin/greenroom"), &elsewhere);
        let place = ["/bin/greenroom", "stand-in", "--place", "{bind}:{port}"];
        assert_eq!(command, [&place[..], &["--at", "127.0.0.1:8080", "--variables", "/a {{b}}/f"]].concat());
    }

    #[test]
    fn a_system_without_a_contract_has_no_place() {
        let service = Service { runs: Runs::Image("shop:1".to_owned()), port: None };
        let refused = service.take_the_place(&mut described("")).expect_err("no place").to_string();
        assert!(refused.ends_with("shop has none"), "{refused}");
    }
}
