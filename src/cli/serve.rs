//! `boxoffice serve`: from flags to a running server.

use std::io;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::check_config::refuse;
use super::exit::ExitCode;
use super::settings::check::read_keys;
use super::settings::flags::SettingsArgs;
use super::settings::{RetentionChoice, Settings};
use super::token::load_token_keys;
use super::{Failed, end, log, print_line};
use crate::admission::peer::{Cidr, TrustedProxies};
use crate::admission::token::TokenRules;
use crate::control::{self, Load, Milestone};
use crate::runtime::file::{close_to_others, create_private_dir};
use crate::runtime::{cpu, limits};
use crate::server::config::{Retention, SHARDS_MAX, ServerConfig};
use crate::server::credentials::Credentials;
use crate::server::datadir::DataDirError;
use crate::server::error::ServerError;
use crate::server::space::{Bytes, is_disk_full, is_file_too_large, space};
use crate::wal::{WalError, shard_dirs};

/// Open files that are not connections: logs, listeners, rings, and some to spare.
pub(super) const OTHER_FILES: u64 = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(args: &Args) -> Result<(), Failed> {
    let resolved = args.settings.resolve();
    log::start(resolved.settings.log_level, resolved.settings.log_format);
    refuse(&resolved.problems)?;
    close_to_others();
    let load = key_loader(&resolved.settings);
    let config = server_config(resolved.settings)?;
    control::serve(&config, load, announce, |error| end(&failed(error)))
        .map_err(|error| if is_disk_full(&error) { full(&config, &error) } else { failed(&error) })
}

/// What reads the files of keys again while the server serves.
fn key_loader(settings: &Settings) -> Load {
    let (keys, token_keys) = (settings.keys.clone(), settings.token_keys.clone());
    let (issuer, audience) = (settings.token_issuer.clone(), settings.token_audience.clone());
    Box::new(move || {
        let keys = keys.as_deref().map(read_keys).transpose()?.map(Arc::new);
        let token_keys = load_token_keys(&token_keys).map_err(|failed| failed.message)?;
        let token_rules = token_keys.map(|keys| {
            let (issuer, audience) = (issuer.clone(), audience.clone());
            Arc::new(TokenRules { keys: Arc::new(keys), issuer, audience })
        });
        Ok(Credentials { keys, token_rules })
    })
}

/// How many shards a start would have: of the data directory, as asked for, or one per CPU.
pub(super) fn expected_shards(data_dir: &Path, asked: Option<NonZeroU16>) -> NonZeroU16 {
    let there = shard_dirs(data_dir).map_or(0, |shards| shards.len());
    let cpus = || cpu::allowed().map_or(1, |cpus| cpus.len().min(usize::from(SHARDS_MAX)));
    let shards = asked.map_or_else(|| if there > 0 { there } else { cpus() }, |n| n.get().into());
    u16::try_from(shards).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}

/// A start that found no room on the disk.
fn full(config: &ServerConfig, error: &ServerError) -> Failed {
    let shards = expected_shards(&config.data_dir, config.shards);
    let room = space(&config.data_dir, shards, 1, config.segment_bytes);
    let room = room.map_or_else(
        |error| format!("its free space is unknown: {error}"),
        |room| {
            let (needed, free) = (Bytes(room.needed_bytes), Bytes(room.free_bytes));
            format!("a start needs {needed} more there, and {free} are free")
        },
    );
    Failed::new(
        ExitCode::NoRoom,
        format_args!(
            "no room in the data directory {}: {room} ({error}); free some space, or name \
             another --data-dir; what was acknowledged is safe",
            config.data_dir.display()
        ),
    )
}

/// What a server is started with: the files are read, and the limits of the process counted in.
fn server_config(settings: Settings) -> Result<ServerConfig, Failed> {
    let keys = settings.keys.as_deref().map(read_keys).transpose();
    let keys = keys.map_err(|problem| Failed::new(ExitCode::Configuration, problem))?;
    let token_keys = load_token_keys(&settings.token_keys)?;
    let trusted_proxies = trusted_proxies(&settings.trusted_proxies)?;
    let retention = retention(&settings)?;
    let config = ServerConfig {
        admin: settings.admin_address(),
        data_dir: settings.data_dir,
        shards: settings.shards,
        cpus: settings.cpus,
        binary: settings.binary,
        http: settings.http,
        keys: keys.map(Arc::new),
        token_keys: token_keys.map(Arc::new),
        token_issuer: settings.token_issuer,
        token_audience: settings.token_audience,
        buyers_confirm: settings.buyers_confirm,
        trusted_proxies,
        proxy_protocol: settings.proxy_protocol,
        cors_origins: settings.cors_origins,
        segment_bytes: settings.segment_bytes,
        segments_ahead: settings.segments_ahead,
        snapshot_every: settings.snapshot_every,
        retention,
        connections_max: connections_max(settings.connections.get())?,
        idle_timeout: settings.idle_timeout,
        request_timeout: settings.request_timeout,
        send_timeout: settings.send_timeout,
        slow_request: settings.slow_request,
        log_level: settings.log_level,
        log_format: settings.log_format,
    };
    refuse_idle_settings(&config)?;
    Ok(config)
}

fn trusted_proxies(networks: &[String]) -> Result<TrustedProxies, Failed> {
    let networks = networks.iter().map(|network| network.parse::<Cidr>());
    networks
        .collect::<Result<_, _>>()
        .and_then(TrustedProxies::new)
        .map_err(|error| Failed::new(ExitCode::Configuration, error))
}

fn retention(settings: &Settings) -> Result<Retention, Failed> {
    let refused = |problem| Err(Failed::new(ExitCode::Configuration, problem));
    match (settings.retention, &settings.archive_dir) {
        (RetentionChoice::Keep, None) => Ok(Retention::Keep),
        (RetentionChoice::Delete, None) => Ok(Retention::Delete),
        (RetentionChoice::Archive, Some(directory)) => {
            let made = create_private_dir(directory)
                .and_then(|()| Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?));
            made.map(|()| Retention::Archive(directory.clone())).map_err(|error| {
                let directory = directory.display();
                let problem = format_args!(
                    "--archive-dir {directory}: nothing can be moved there: {error}; name a \
                     directory that the server can write to"
                );
                Failed::new(ExitCode::Configuration, problem)
            })
        }
        (RetentionChoice::Archive, None) => {
            refused("--retention archive needs a directory: name one with --archive-dir")
        }
        (_, Some(_)) => {
            refused("--archive-dir is for --retention archive, and nothing is moved there without")
        }
    }
}

/// Refuses settings that do nothing without another one: who sets them relies on them.
fn refuse_idle_settings(config: &ServerConfig) -> Result<(), Failed> {
    let has_token_keys = config.token_keys.is_some();
    let problem = if config.token_issuer.is_some() && !has_token_keys {
        "--token-issuer checks no token without a key: name one with --token-key"
    } else if config.token_audience.is_some() && !has_token_keys {
        "--token-audience checks no token without a key: name one with --token-key"
    } else if config.buyers_confirm && !has_token_keys {
        "--buyers-confirm lets nobody confirm without a token's key: name one with --token-key"
    } else if config.proxy_protocol && config.trusted_proxies.is_empty() {
        "--proxy-protocol believes nobody without a trusted proxy: name one with --trusted-proxy"
    } else {
        return Ok(());
    };
    Err(Failed::new(ExitCode::Configuration, problem))
}

/// As many connections as the limit on open files allows; at least one.
fn connections_max(asked: usize) -> Result<usize, Failed> {
    let limit = limits::raise_open_files().unwrap_or(u64::MAX);
    let allowed = usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if allowed == 0 {
        let least = 2 * OTHER_FILES;
        return Err(Failed::new(
            ExitCode::Environment,
            format_args!(
                "the limit of {limit} open files leaves no room for connections: raise it to \
                 {least} or more (`ulimit -n`, or LimitNOFILE= in the unit)"
            ),
        ));
    }
    if allowed < asked {
        tracing::warn!(
            "the limit of {limit} open files leaves room for {allowed} connections; for {asked} \
             raise it (`ulimit -n`, or LimitNOFILE= in the unit)"
        );
    }
    Ok(asked.min(allowed).max(1))
}

/// What scripts wait for: one line for each listener, and then that the server serves.
fn announce(milestone: Milestone<'_>) {
    let started = match milestone {
        Milestone::Admin(address) => return say_where(&format!("listening admin {address}")),
        Milestone::Serving(started) => started,
    };
    let shards = started.shard_addresses.iter().enumerate();
    let shards = shards.map(|(shard, address)| format!("listening shard {shard} {address}"));
    let all = format!("listening binary {}", started.address);
    let http = format!("listening http {}", started.http);
    let lines = std::iter::once(all).chain(shards).chain([http, "ready".to_owned()]);
    for line in lines {
        say_where(&line);
    }
}

/// A server whose output is closed serves all the same.
fn say_where(line: &str) {
    if let Err(failed) = print_line(line) {
        tracing::warn!("{}", failed.message);
    }
}

fn failed(error: &ServerError) -> Failed {
    let code = code(error);
    match way_out(code, error) {
        Some(way_out) => Failed::new(code, format_args!("{error}{way_out}")),
        None => Failed::new(code, error),
    }
}

fn code(error: &ServerError) -> ExitCode {
    match error {
        ServerError::DataDir(error) => match error {
            DataDirError::InUse { .. } => ExitCode::DirectoryInUse,
            DataDirError::NewerFormat { .. } | DataDirError::NotOurs { .. } => {
                ExitCode::ForeignData
            }
            DataDirError::BadManifest { .. } | DataDirError::MissingShard { .. } => {
                ExitCode::DamagedLog
            }
            DataDirError::Io { source, .. } if Errno::from_io_error(source) == Some(Errno::IO) => {
                ExitCode::CannotRead
            }
            DataDirError::Io { source, .. } if is_file_too_large(source) => ExitCode::Environment,
            DataDirError::Absent { .. }
            | DataDirError::NotADirectory { .. }
            | DataDirError::Unmade { .. }
            | DataDirError::Io { .. } => ExitCode::Configuration,
        },
        ServerError::Log(error) => ExitCode::of_log(error),
        ServerError::NeedsKeys { .. } | ServerError::NoSuchCpu { .. } | ServerError::Cors(_) => {
            ExitCode::Configuration
        }
        ServerError::RingSetup(_) | ServerError::Executor { .. } | ServerError::DirectIo { .. } => {
            ExitCode::Environment
        }
        ServerError::Listen { .. }
        | ServerError::NoOwnPorts { .. }
        | ServerError::PortsCollide { .. }
        | ServerError::AdminSocket { .. } => ExitCode::CannotListen,
        ServerError::Prepare { .. } if is_disk_full(error) => ExitCode::NoRoom,
        ServerError::LogWrite { .. }
        | ServerError::Prepare { .. }
        | ServerError::SyncDirectory { .. } => ExitCode::DiskFailed,
        ServerError::Ring(_) | ServerError::System { .. } => ExitCode::Failure,
    }
}

/// What to do about an error that does not say so itself.
fn way_out(code: ExitCode, error: &ServerError) -> Option<&'static str> {
    if is_file_too_large(error) {
        return Some(
            "; no file of this process may be so large: raise that limit (`ulimit -f`, or \
             LimitFSIZE= in the unit)",
        );
    }
    match (code, error) {
        (ExitCode::CannotRead, _) => Some("; check the disk (dmesg, smartctl)"),
        (ExitCode::DirectoryInUse, _) => Some(", or choose another --data-dir"),
        (_, ServerError::DataDir(DataDirError::NotADirectory { .. })) => Some(" with --data-dir"),
        (ExitCode::Configuration, ServerError::DataDir(DataDirError::Io { source, .. }))
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
        {
            Some(
                "; mount it for writing (after an error of the disk the kernel stops writing: see \
                 dmesg)",
            )
        }
        (
            ExitCode::Configuration,
            ServerError::DataDir(DataDirError::Io { .. }) | ServerError::Log(WalError::Io { .. }),
        ) => Some(
            "; run this as the user who has the directory, or name another one with --data-dir",
        ),
        _ => None,
    }
}
