//! The program inside the sample image: a whole static Linux executable of a few hundred bytes.
//!
//! It waits for ever, and with any argument it ends at once with exit code 1. So the image runs on a real node, needs
//! no compiler to be made, and has a way to be bad.

/// Instructions for x86-64: compares argc, then `pause` in a loop, or `exit(1)`.
const X86_64: [u8; 31] = [
    0x48, 0x8b, 0x04, 0x24, // mov rax, [rsp]
    0x48, 0x83, 0xf8, 0x01, // cmp rax, 1
    0x75, 0x09, // jne exit
    0xb8, 0x22, 0x00, 0x00, 0x00, 0x0f, 0x05, // wait: mov eax, 34; syscall
    0xeb, 0xf7, // jmp wait
    0xb8, 0x3c, 0x00, 0x00, 0x00, // exit: mov eax, 60
    0xbf, 0x01, 0x00, 0x00, 0x00, 0x0f, 0x05, // mov edi, 1; syscall
];

/// Instructions for AArch64: the same with `ppoll`, which is its `pause`.
const AARCH64: [u32; 13] = [
    0xf940_03e0, // ldr x0, [sp]
    0xf100_041f, // cmp x0, #1
    0x5400_0101, // b.ne exit
    0xd280_0000, // wait: mov x0, #0
    0xd280_0001, // mov x1, #0
    0xd280_0002, // mov x2, #0
    0xd280_0003, // mov x3, #0
    0xd280_0928, // mov x8, #73
    0xd400_0001, // svc #0
    0x17ff_fffa, // b wait
    0xd280_0020, // exit: mov x0, #1
    0xd280_0ba8, // mov x8, #93
    0xd400_0001, // svc #0
];

/// Where the file is mapped.
const BASE: u64 = 0x40_0000;
/// Bytes of the ELF header and its one program header.
const HEADERS: u64 = 64 + 56;

/// The executable for an architecture as OCI names it, where there is one.
#[must_use]
pub fn executable(architecture: &str) -> Option<Vec<u8>> {
    let (machine, code): (u16, Vec<u8>) = match architecture {
        "amd64" => (62, X86_64.to_vec()),
        "arm64" => (183, AARCH64.iter().flat_map(|word| word.to_le_bytes()).collect()),
        _ => return None,
    };
    let size = HEADERS + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| file.extend_from_slice(bytes);
    put(&2u16.to_le_bytes()); // executable
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes());
    put(&(BASE + HEADERS).to_le_bytes()); // entry
    put(&64u64.to_le_bytes()); // program headers begin
    put(&0u64.to_le_bytes()); // no section headers
    put(&0u32.to_le_bytes());
    for field in [64u16, 56, 1, 0, 0, 0] {
        put(&field.to_le_bytes()); // sizes and counts of headers
    }
    put(&1u32.to_le_bytes()); // load …
    put(&5u32.to_le_bytes()); // … to read and execute
    for field in [0, BASE, BASE, size, size, 0x1000] {
        put(&field.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    put(&code);
    Some(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn headers_and_code_fill_the_file() {
        for architecture in ["amd64", "arm64"] {
            let file = executable(architecture).unwrap();
            let size = u64::from_le_bytes(file[96..104].try_into().unwrap());
            assert_eq!(size, file.len() as u64, "{architecture}");
        }
        assert_eq!(executable("riscv64"), None);
    }

    #[test]
    fn the_program_waits_and_with_an_argument_it_fails() {
        let host = airlift_agent::config::host_platform();
        let Some(file) = executable(&host.architecture) else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kiosk");
        fs::write(&path, file).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Command::new(&path).arg("fail").status().unwrap().code(), Some(1));
        let mut waiting = Command::new(&path).spawn().unwrap();
        sleep(Duration::from_millis(100));
        assert!(waiting.try_wait().unwrap().is_none(), "it still waits");
        waiting.kill().unwrap();
        waiting.wait().unwrap();
    }
}
