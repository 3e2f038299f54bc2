//! What wakes the control plane: a byte from any thread, or from a signal.

use std::io;
use std::os::unix::net::UnixStream;

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;

/// The end that the control plane waits on.
pub struct Bell {
    // Of glommio's streams, only this one can be made of a socket that exists already. It
    // receives from any stream socket.
    heard: TcpStream,
    rung: UnixStream,
}

/// The end that others ring.
#[derive(Debug)]
pub struct Ringer(UnixStream);

impl Bell {
    /// A bell of the executor that runs.
    pub fn new() -> io::Result<Self> {
        let (heard, rung) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rung.set_nonblocking(true)?;
        Ok(Self { heard: TcpStream::from(glommio_socket2::Socket::from(heard)), rung })
    }

    /// One more end to ring.
    pub fn ringer(&self) -> io::Result<Ringer> {
        Ok(Ringer(self.rung.try_clone()?))
    }

    /// Waits until the bell was rung. Several rings may be heard as one.
    pub async fn heard(&mut self) -> io::Result<()> {
        self.heard.read(&mut [0; 64]).await?;
        Ok(())
    }
}

impl Ringer {
    /// One more such end.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Rings. Where so many rings wait that one more does not fit, it will be heard anyway.
    pub fn ring(&self) {
        let _ = io::Write::write(&mut &self.0, &[1]);
    }

    /// The socket to write to, for a signal.
    pub fn into_socket(self) -> UnixStream {
        self.0
    }
}
