//! A terminal that gives each key at once, and its size.

use std::io::{self, Read, stdin, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The keys of the terminal on standard input, none of which is shown or has a meaning of its
/// own. The terminal is as it was once this is dropped.
#[derive(Debug)]
pub struct Keys {
    before: Option<Termios>,
    pressed: Receiver<u8>,
}

impl Keys {
    /// Listens to standard input. Where that is no terminal, its bytes are keys.
    pub fn listen() -> io::Result<Self> {
        let before = tcgetattr(stdin()).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        }
        let (sender, pressed) = channel();
        // It ends with the process: a read of a terminal cannot be cut short.
        thread::spawn(move || {
            for key in stdin().lock().bytes().map_while(Result::ok) {
                if sender.send(key).is_err() {
                    return;
                }
            }
        });
        Ok(Self { before, pressed })
    }

    /// The next key, where one is pressed in time.
    #[must_use]
    pub fn next(&self, patience: Duration) -> Option<u8> {
        match self.pressed.recv_timeout(patience) {
            Ok(key) => Some(key),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // The input has ended, and time passes all the same.
                thread::sleep(patience);
                None
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Where the terminal has gone there is nothing to put right.
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// Columns and rows of the terminal on standard output; `None` where it is none.
#[must_use]
pub fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(stdout()).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}
