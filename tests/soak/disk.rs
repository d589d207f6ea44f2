//! A file system of the soak's own, so that it can be full.

use std::path::PathBuf;

/// Where the data directory is: on a small file system of its own where one can be mounted, so that it can be full.
pub struct Disk {
    pub path: PathBuf,
    is_mounted: bool,
}

impl Disk {
    pub fn new(path: PathBuf) -> Disk {
        std::fs::create_dir(&path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512m", "soak"]).arg(&path);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        if !is_mounted {
            println!("no file system of its own can be mounted, so the disk is never full");
        }
        Disk { path, is_mounted }
    }

    /// Takes all the room there is; the file that does so.
    pub fn fill(&self) -> Option<PathBuf> {
        use std::io::Write;
        let file = self.is_mounted.then(|| self.path.join("filler"))?;
        let mut filler = std::fs::File::create(&file).unwrap();
        let block = vec![0; 1 << 16];
        while filler.write_all(&block).is_ok() {}
        Some(file)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = std::process::Command::new("umount").arg("-l").arg(&self.path).output();
        }
    }
}
