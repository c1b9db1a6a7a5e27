//! Small file systems of their own; unmounted when dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system in memory.
#[derive(Debug)]
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    /// Mounts one of that size at `path`, where this user may.
    pub(crate) fn mount(path: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&path).expect("a directory");
        let option = format!("size={size}");
        if run(Command::new("mount").args(["-t", "tmpfs", "-o", &option, "kdelta-test"]).arg(&path))
        {
            return Some(Self(path));
        }
        crate::skipped("this user may not mount a small file system");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

/// An ext4 file system in a file, whose power can be cut.
#[derive(Debug)]
pub(crate) struct Ext4 {
    image: PathBuf,
    place: PathBuf,
    python: PathBuf,
    mounted: bool,
}

/// `EXT4_IOC_SHUTDOWN` with `NOLOGFLUSH`: nothing that is not on the device gets there any more.
/// Ready before it is told, so that the cut follows at once.
const CUT: &str = "import fcntl, os, struct, sys
disk = os.open(sys.argv[1], os.O_RDONLY)
print('ready', flush=True)
if sys.stdin.readline(): fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))
else: sys.exit(1)";

/// A power cut that is about to come.
#[derive(Debug)]
pub(crate) struct Switch(Child);

impl Switch {
    /// Cuts the power: from here on nothing that is written lasts.
    pub(crate) fn cut(mut self) {
        drop(self.0.stdin.take().expect("piped").write_all(b"cut\n"));
        let status = self.0.wait().expect("it is ours");
        assert!(status.success(), "the file system knows how to shut down");
    }
}

impl Ext4 {
    /// Makes one and mounts it at `place`, where this user may.
    pub(crate) fn mount(image: PathBuf, place: PathBuf) -> Option<Self> {
        let (make, python) = (crate::tool("mkfs.ext4")?, crate::tool("python3")?);
        std::fs::create_dir(&place).expect("a directory");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(64 << 20).expect("room for it");
        assert!(run(Command::new(make).arg("-q").arg(&image)), "an ext4 file system");
        let mut disk = Self { image, place, python, mounted: false };
        if disk.try_mount() {
            return Some(disk);
        }
        crate::skipped("this user may not mount an ext4 file system by a loop device");
        None
    }

    fn try_mount(&mut self) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.place);
        self.mounted = run(&mut command);
        self.mounted
    }

    /// Gets a power cut ready.
    pub(crate) fn switch(&self) -> Switch {
        let mut child = Command::new(&self.python)
            .args(["-c", CUT])
            .arg(&self.place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("UTF-8");
        assert_eq!(line, "ready\n");
        Switch(child)
    }

    /// Turns the power on again. Nobody may have a file open.
    pub(crate) fn restart(&mut self) {
        crate::common::until("the file system is unmounted", || {
            run(Command::new("umount").arg(&self.place))
        });
        self.mounted = false;
        assert!(self.try_mount(), "it was mounted before");
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        if self.mounted {
            run(Command::new("umount").arg("-l").arg(&self.place));
        }
    }
}

fn run(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
