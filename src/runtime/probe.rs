//! Which operations of a ring the kernel has. Whether a ring can be set up at all is told by
//! [`Ring::probe`](super::Ring::probe), which asks for its flags and its buffer ring.

use std::io;

use io_uring::{IoUring, Probe, opcode};

/// The operations that rings use, by the kernel's names.
const OPERATIONS: [(&str, u8); 8] = [
    ("ACCEPT", opcode::Accept::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// How many operations rings use.
pub const OPERATION_COUNT: usize = OPERATIONS.len();

/// Those of the operations that this kernel lacks.
pub fn missing_operations() -> io::Result<Vec<&'static str>> {
    let ring = IoUring::new(2)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let missing = OPERATIONS.iter().filter(|(_, code)| !probe.is_supported(*code));
    Ok(missing.map(|(name, _)| *name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_all_of_them() {
        assert_eq!(missing_operations().expect("a ring"), [""; 0]);
    }

    #[test]
    fn an_operation_that_no_kernel_has_is_not_supported() {
        let ring = IoUring::new(2).expect("a ring");
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe).expect("a probe");
        assert!(!probe.is_supported(u8::MAX));
    }
}
