//! Listening and connected TCP sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, at most; the kernel may allow fewer.
pub const BACKLOG: i32 = 4096;

/// Listening sockets on one address. Connections wait in their backlog until they are accepted.
#[derive(Debug)]
pub struct Listeners {
    /// One socket for each shard.
    pub sockets: Vec<OwnedFd>,
    /// The address, with the port that port 0 became.
    pub address: SocketAddr,
}

/// Listens on one address with `count` sockets, over which the kernel spreads connections.
///
/// A busy port is an error even where its owner would share it: two servers on one port would
/// take connections from each other in silence.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Listeners> {
    let alone = listener(address, false)?;
    let address = alone.local_addr()?.as_socket().expect("an internet socket has its address");
    if count == 1 {
        return Ok(Listeners { sockets: vec![alone.into()], address });
    }
    drop(alone);
    let sockets = (0..count)
        .map(|_| listener(address, true).map(OwnedFd::from))
        .collect::<io::Result<_>>()?;
    Ok(Listeners { sockets, address })
}

/// Whether an address could be listened on now; it is not listened on for that.
pub fn try_bind(address: SocketAddr) -> io::Result<()> {
    bound(address, false).map(|_| ())
}

/// What a listener accepts inherits its `TCP_NODELAY`.
fn listener(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = bound(address, shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket that a ring can connect to `address`.
pub fn socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// The connections that wait at a socket that no ring accepts from any more, one after the other:
/// to close it with them in its backlog would reset them.
pub fn accept_waiting(listener: &OwnedFd) -> impl Iterator<Item = OwnedFd> {
    let waits_not = rustix::io::ioctl_fionbio(listener, true).is_ok();
    let accept = move || rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC).ok();
    std::iter::from_fn(accept).take(if waits_not { BACKLOG as usize } else { 0 })
}

/// Ends both directions of a connection, so that every operation on it completes.
pub fn shutdown(socket: &OwnedFd) {
    // An error says that the peer has done so already.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
}

/// Ends the sending direction: the peer reads what was sent, and then the end.
pub fn finish(socket: &OwnedFd) {
    // An error says that the peer is gone already.
    let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
}

/// The address of a connection's other end; an error where it is gone already.
pub fn peer(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getpeername(socket)?.and_then(|at| SocketAddr::try_from(at).ok());
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn whoever_waits_outlives_the_listener() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listeners = listen(address, 1).expect("a free port");
        let [listener] = &listeners.sockets[..] else { panic!("one was asked for") };
        assert_eq!(accept_waiting(listener).count(), 0, "nobody waits, and it does not either");
        let connect = || TcpStream::connect(listeners.address).expect("it listens");
        let mut peers: Vec<_> = (0..3).map(|_| connect()).collect();
        for peer in &mut peers {
            peer.write_all(b"x").expect("it is connected");
        }
        let accepted: Vec<_> = accept_waiting(listener).map(TcpStream::from).collect();
        let address = listeners.address;
        drop(listeners);
        assert_eq!(accepted.len(), 3);
        for (mut socket, mut peer) in accepted.into_iter().zip(peers) {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("what was sent before is there");
            socket.write_all(&byte).expect("the connection lives");
            peer.read_exact(&mut byte).expect("the answer arrives");
            assert_eq!(byte, *b"x");
        }
        assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
    }
}
