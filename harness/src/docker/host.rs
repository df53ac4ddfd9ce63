//! Where the container engine listens: `DOCKER_HOST`, and which of its forms name one of this machine.

use std::net::IpAddr;

use super::error::{EngineError, HOST_VARIABLE};

/// Where an engine usually listens.
const SOCKET: &str = "unix:///var/run/docker.sock";

/// Where an engine listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listens<'a> {
    /// At a socket of this machine: its path.
    Socket(&'a str),
    /// At a port of a loopback address, as `127.0.0.1:2375`.
    Port(&'a str),
}

impl<'a> Listens<'a> {
    /// What `DOCKER_HOST` names.
    pub(super) fn at(host: &'a str) -> Result<Self, EngineError> {
        if let Some(path) = host.strip_prefix("unix://") {
            return Ok(Self::Socket(path));
        }
        let port = ["tcp://", "http://"].into_iter().find_map(|scheme| host.strip_prefix(scheme));
        let port = port.map(|port| port.trim_end_matches('/'));
        let is_here = |port: &&str| {
            let Some((name, number)) = port.rsplit_once(':') else { return false };
            let address: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
            number.parse::<u16>().is_ok() && (name == "localhost" || address.is_some_and(|ip| ip.is_loopback()))
        };
        port.filter(is_here).map(Self::Port).ok_or_else(|| EngineError::Elsewhere { host: host.to_owned() })
    }

    fn place(self) -> &'a str {
        match self {
            Self::Socket(place) | Self::Port(place) => place,
        }
    }
}

/// Where the container engine listens: what `DOCKER_HOST` says, else where one usually does.
#[must_use]
pub fn host() -> String {
    std::env::var(HOST_VARIABLE).ok().filter(|host| !host.is_empty()).unwrap_or_else(|| SOCKET.to_owned())
}

/// The same place as the engine's command takes it, which does not know all that `DOCKER_HOST` may say to us.
pub(super) fn for_its_command(host: &str) -> Result<String, EngineError> {
    Ok(match Listens::at(host)? {
        Listens::Socket(path) => format!("unix://{path}"),
        Listens::Port(port) => format!("tcp://{port}"),
    })
}

/// Where an engine is, for a person: the place, and who named it.
pub(super) fn told(host: &str, at: Listens<'_>) -> String {
    let said = if host == SOCKET { String::new() } else { format!(" ({HOST_VARIABLE} says so)") };
    format!("{}{said}", at.place())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_at_a_socket_or_at_a_port_of_loopback() {
        for (host, expected) in [
            (SOCKET, Listens::Socket("/var/run/docker.sock")),
            ("unix:///run/user/1000/docker.sock", Listens::Socket("/run/user/1000/docker.sock")),
            ("tcp://127.0.0.1:2375", Listens::Port("127.0.0.1:2375")),
            ("tcp://[::1]:2375", Listens::Port("[::1]:2375")),
            ("http://localhost:2375/", Listens::Port("localhost:2375")),
        ] {
            assert_eq!(Listens::at(host).expect(host), expected);
        }
        assert_eq!(for_its_command("http://localhost:2375/").expect("it is here"), "tcp://localhost:2375");
        assert_eq!(for_its_command(SOCKET).expect("it is here"), SOCKET);
        for host in ["tcp://10.0.0.7:2375", "tcp://build.example:2375", "tcp://127.0.0.1", "ssh://me@build", "nonsense"]
        {
            let error = Listens::at(host).expect_err(host);
            assert!(error.to_string().starts_with(&format!("DOCKER_HOST is {host}, ")), "{error}");
        }
    }
}
