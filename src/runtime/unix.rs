//! Listening on a Unix socket: its file's mode, what a dead owner left, and who connects.
//!
//! The file is for its owner and group alone from the moment it exists: nobody can connect before
//! the socket listens, and it listens only once its mode is set. Whoever needs that no two servers
//! race for one path holds a lock of its own.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 128;

/// Read and write for the owner and the group: to connect takes the right to write.
const MODE: u32 = 0o660;

/// The process at the other end of a Unix socket, when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process id; 0 where it lies in a process namespace that this one does not see.
    pub pid: i32,
    /// Its effective user id.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
}

/// The file of a listening socket. Dropping it removes the file, unless another has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// Listens at `path`, with mode 0660. A socket there that nobody answers on is replaced; one that
/// somebody answers on, and any other file, is left alone and reported as `AddrInUse`.
pub fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_dead(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::new(path)?;
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    Ok((socket.into(), file))
}

/// Removes the socket at `path` unless somebody answers on it.
fn remove_dead(path: &Path) -> io::Result<()> {
    let in_use = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return in_use("a file that is no socket has this name");
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => in_use("a process listens there"),
    }
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() })
    }

    /// As long as the socket lives it keeps its inode, so that no other file has the same.
    fn is(&self, metadata: &Metadata) -> bool {
        (metadata.dev(), metadata.ino()) == (self.device, self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| self.is(&metadata)) {
            // Where it cannot be removed, the next start finds it dead and replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Who is at the other end.
pub fn credentials(socket: &UnixStream) -> io::Result<Credentials> {
    // Not by `rustix`, whose process ids cannot be 0 as this one may.
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the socket is open as long as it is borrowed, and the two pointers are to a `ucred`
    // and to its size in bytes, both alive and unshared for the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let libc::ucred { pid, uid, gid } = credentials;
    Ok(Credentials { pid, uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_has_its_file_while_it_lives() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("socket");
        let (listener, file) = listen(&path).expect("it listens");
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o7777, MODE);

        let client = UnixStream::connect(&path).expect("it connects");
        let (server, _) = listener.accept().expect("it accepts");
        for end in [&client, &server] {
            let peer = credentials(end).expect("it can be asked");
            assert_eq!(peer.pid, std::process::id().cast_signed());
            assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
            assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        }

        let second = listen(&path).expect_err("the first one lives");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        // As an operator would who lets another group in.
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_and_another_file_is_not() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("socket");
        let (listener, dead) = listen(&path).expect("it listens");
        drop(listener);
        assert!(path.exists(), "a crash leaves the file");
        // The listener is gone, so its inode would be free for the next file.
        fs::hard_link(&path, home.path().join("kept")).expect("a socket can have two names");
        let (_listener, file) = listen(&path).expect("nobody answers there");
        drop(dead);
        assert!(path.exists(), "the dead one does not remove what replaced it");
        drop(file);

        fs::write(&path, "precious").expect("it writes");
        let refused = listen(&path).expect_err("it is no socket");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).expect("it reads"), b"precious");
    }
}
