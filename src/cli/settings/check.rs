//! What can be told of settings before a start: the files that they name, and how they fit.
//!
//! It finds every problem, and changes nothing. What only a start can tell (whether a port is
//! free, whether the disk takes direct writes) is for `doctor`.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::{Problem, Resolved, RetentionChoice, Settings};
use crate::admission::keys::Keys;
use crate::cli::token::load_token_keys;
use crate::runtime::cpu;
use crate::server::config::AdminAddress;

/// The most bytes of a Unix socket's path: 108 with the zero behind it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Every problem with the settings in force.
pub fn check(resolved: &Resolved) -> Vec<Problem> {
    let settings = &resolved.settings;
    let mut problems = Vec::new();
    let mut complain = |name: &str, problem: String| {
        problems.push(Problem::new(resolved.origin(name), format_args!("{name}: {problem}")));
    };
    if let Some(problem) = data_dir(&settings.data_dir) {
        complain("data_dir", problem);
    }
    if let Some(problem) = settings.cpus.as_deref().and_then(absent_cpu) {
        complain("cpus", problem);
    }
    if let Some(problem) = admin_socket(settings) {
        complain("admin", problem);
    }
    if let Some((name, problem)) = archive(settings) {
        complain(name, problem);
    }
    for (name, address) in listeners(settings) {
        // Over HTTP a buyer's token is a credential too.
        let has_keys = settings.keys.is_some() || name == "http" && !settings.token_keys.is_empty();
        if !has_keys && !address.ip().is_loopback() {
            complain(
                name,
                format!(
                    "{address} can be reached from other machines, and no key is configured: set \
                     `keys` (`boxoffice key` makes keys), or listen on a loopback address"
                ),
            );
        }
    }
    for (name, problem) in clashes(settings) {
        complain(name, problem);
    }
    if let Some(Err(problem)) = settings.keys.as_deref().map(read_keys) {
        complain("keys", problem);
    }
    for path in &settings.token_keys {
        if let Err(failed) = load_token_keys(std::slice::from_ref(path)) {
            complain("token_keys", failed.message);
        }
    }
    if settings.token_keys.is_empty() {
        let [issuer, audience] = [&settings.token_issuer, &settings.token_audience];
        for (name, rule) in [("token_issuer", issuer), ("token_audience", audience)] {
            if rule.is_some() {
                complain(
                    name,
                    "no token is checked without `token_keys`: set those too".to_owned(),
                );
            }
        }
        if settings.buyers_confirm {
            let problem = "no buyer is known without `token_keys`: set those too";
            complain("buyers_confirm", problem.to_owned());
        }
    }
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        complain(
            "proxy_protocol",
            "nobody is trusted to speak it: set `trusted_proxies` as well".to_owned(),
        );
    }
    problems
}

/// The keys in a file.
pub fn read_keys(path: &Path) -> Result<Keys, String> {
    let bytes = fs::read(path).map_err(|error| {
        let path = path.display();
        format!("{path}: cannot read the keys: {error}; `boxoffice key` makes one")
    })?;
    // What is not text is no line of a key file either.
    Keys::parse(&String::from_utf8_lossy(&bytes), &path.to_string_lossy())
        .map_err(|error| error.to_string())
}

/// A socket that cannot be made.
fn admin_socket(settings: &Settings) -> Option<String> {
    let AdminAddress::Unix(path) = settings.admin_address() else { return None };
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Some(format!(
            "{} has {bytes} bytes, and a socket's path at most {SOCKET_PATH_BYTES_MAX}: choose a \
             shorter one",
            path.display()
        ));
    }
    if let Ok(found) = fs::symlink_metadata(&path) {
        let is_socket = found.file_type().is_socket();
        return (!is_socket).then(|| format!("{} is there and is no socket", path.display()));
    }
    // The data directory is made where it is missing.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    let is_there = parent.is_dir() || parent == settings.data_dir;
    (!is_there).then(|| {
        let (path, parent) = (path.display(), parent.display());
        format!("{path} cannot be made: there is no directory {parent}")
    })
}

/// An archive that is asked for and has no place, or the other way round.
fn archive(settings: &Settings) -> Option<(&'static str, String)> {
    match (settings.retention, &settings.archive_dir) {
        (RetentionChoice::Archive, None) => Some((
            "retention",
            "an archive needs a directory: set `archive_dir` as well".to_owned(),
        )),
        (RetentionChoice::Archive, Some(path)) => {
            unwritable(path).map(|problem| ("archive_dir", problem))
        }
        (_, Some(_)) => Some((
            "archive_dir",
            "nothing is moved there without `retention = \"archive\"`: set that too".to_owned(),
        )),
        (_, None) => None,
    }
}

/// Why nothing can be put into a directory, which is made where it is missing.
fn unwritable(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let error = access(there, Access::WRITE_OK | Access::EXEC_OK).err();
    match error {
        _ if !there.is_dir() => Some(format!("{} is not a directory", there.display())),
        Some(error) => Some(format!("nothing can be written in {}: {error}", there.display())),
        None => None,
    }
}

fn data_dir(path: &Path) -> Option<String> {
    if let Ok(found) = fs::metadata(path) {
        return (!found.is_dir()).then(|| format!("{} is not a directory", path.display()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    (!parent.is_dir()).then(|| {
        let (path, parent) = (path.display(), parent.display());
        format!("{path} cannot be made: there is no directory {parent}")
    })
}

fn absent_cpu(cpus: &[usize]) -> Option<String> {
    let allowed = cpu::allowed().ok()?;
    let absent = cpus.iter().find(|cpu| !allowed.contains(cpu))?;
    Some(format!("CPU {absent} is not available to this process (available: {allowed:?})"))
}

/// The addresses that are listened on, by setting.
fn listeners(settings: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let mut listeners = vec![("binary", settings.binary), ("http", settings.http)];
    if let AdminAddress::Tcp(address) = settings.admin_address() {
        listeners.push(("admin", address));
    }
    listeners
}

/// Listeners that want the same port, or a port of a shard's own.
fn clashes(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut clashes = Vec::new();
    let listeners = listeners(settings);
    let binary = settings.binary.port();
    let shards = settings.shards.map_or(1, std::num::NonZeroU16::get);
    let last = u32::from(binary) + u32::from(shards);
    if binary != 0 && last > u32::from(u16::MAX) {
        let problem = format!(
            "the shards' own ports come right behind {binary}, up to {last}, and there is no room"
        );
        clashes.push(("binary", problem));
    }
    for (index, (name, address)) in listeners.iter().enumerate() {
        for (earlier, other) in &listeners[..index] {
            let ports = match *earlier {
                "binary" => u32::from(binary)..=last,
                _ => u32::from(other.port())..=u32::from(other.port()),
            };
            let meet = address.ip() == other.ip() || is_any(*address) || is_any(*other);
            if meet && address.port() != 0 && ports.contains(&u32::from(address.port())) {
                let port = address.port();
                clashes.push((*name, format!("port {port} is one of those of `{earlier}`")));
            }
        }
    }
    clashes
}

fn is_any(address: SocketAddr) -> bool {
    address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clashing(binary: &str, http: &str, shards: u16) -> Vec<&'static str> {
        let settings = Settings {
            binary: binary.parse().expect("an address"),
            http: http.parse().expect("an address"),
            shards: std::num::NonZeroU16::new(shards),
            ..Settings::default()
        };
        clashes(&settings).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn ports_that_meet_are_found() {
        assert_eq!(clashing("127.0.0.1:7400", "127.0.0.1:7400", 1), ["http"]);
        assert_eq!(clashing("127.0.0.1:7400", "127.0.0.1:7402", 2), ["http"]);
        assert_eq!(clashing("127.0.0.1:7400", "127.0.0.1:7403", 2), [""; 0]);
        assert_eq!(clashing("0.0.0.0:7400", "127.0.0.1:7400", 1), ["http"]);
        assert_eq!(clashing("127.0.0.2:7400", "127.0.0.1:7400", 1), [""; 0]);
        assert_eq!(clashing("127.0.0.1:0", "127.0.0.1:0", 8), [""; 0]);
        assert_eq!(clashing("127.0.0.1:65535", "127.0.0.1:80", 1), ["binary"]);
    }
}
