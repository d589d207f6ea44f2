//! The file operations the journal needs, as a Rust trait, and the real ones on the local file system.
//! Behind the trait, tests put a disk that tears, forgets, flips and fails. Knows nothing of segments or records.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the journal asks of a file system.
pub trait Files: Send + Sync {
    /// Creates a directory and its parents, mode 0700, where they are missing, and makes their names durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory that are Unicode, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a new file, mode 0600; an error where one of that name exists.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Disk>>;
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Disk>>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that this process may still write to the file system of a directory.
    fn available(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the lock file at a path for as long as the answer lives.
    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError>;
}

/// A lock file that this process has.
pub trait Lock: Send + Sync {
    /// Whether the file of that name is still this one: nobody moved or removed it, or its directory.
    fn is_in_place(&self) -> bool;
}

/// An open file.
pub trait Disk: Send + Sync {
    /// Reads some bytes at an offset; 0 at the end.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some of the bytes at an offset and says how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes content and length durable (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Drops what is on disk from memory, from an offset on, where the system can: the next read asks the disk itself.
    fn forget(&self, offset: u64);
    /// How long the file is.
    fn size(&self) -> io::Result<u64>;
    /// Whether the file of that name is this one: nobody moved or removed it, or its directory.
    fn is_at(&self, path: &Path) -> bool;
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone else has it; what that one wrote into the lock file, its process id.
    #[error("held by process {0}")]
    Held(String),
    /// The lock file could not be used.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes all bytes, however many calls that takes.
pub fn write_all(file: &dyn Disk, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                offset += written as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until the buffer or the file is at its end; says how many bytes there were.
pub fn read_full(file: &dyn Disk, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..)
        && !rest.is_empty()
    {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Whether an error says that a part of the disk cannot be read: for now, or for ever.
pub fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What an operator can do about an error of writing or reading.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is mounted read-only, often after an error of the disk: check the disk and mount it writable"
        }
        io::ErrorKind::PermissionDenied => "let the user that this process runs as read and write there",
        io::ErrorKind::NotFound => "it was moved or removed: put it back where it was",
        _ => "check that disk, and the system's log about it",
    }
}

/// Whether an error says that there is no room: the disk or a quota is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The local file system.
#[derive(Debug, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let is_missing = |ancestor: &&Path| !ancestor.as_os_str().is_empty() && !ancestor.exists();
        let missing: Vec<&Path> = dir.ancestors().take_while(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A relative path's last ancestor is empty and means the current directory.
        let parents = missing.iter().filter_map(|created| created.parent());
        parents
            .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
            .try_for_each(|parent| self.sync_dir(parent))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn available(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                return Err(LockError::Held(holder.trim().to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e.into()),
        }
        // On a full disk nobody can write who has it. It is had all the same.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Box::new(HeldLock { file, path: path.to_owned() }))
    }
}

struct HeldLock {
    file: File,
    path: PathBuf,
}

impl Lock for HeldLock {
    fn is_in_place(&self) -> bool {
        self.file.is_at(&self.path)
    }
}

impl Disk for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn forget(&self, offset: u64) {
        // Some file systems do not offer it; there, memory is all there is to ask.
        let _ = rustix::fs::fadvise(self, offset, None, rustix::fs::Advice::DontNeed);
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn is_at(&self, path: &Path) -> bool {
        let same = |there: fs::Metadata| {
            let here = self.metadata()?;
            io::Result::Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
        };
        match fs::metadata(path).and_then(same) {
            Ok(same) => same,
            // Whoever may not look cannot say that it is gone.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_and_directories_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("a/b");
        RealFiles.create_dir(&sub).unwrap();
        RealFiles.create(&sub.join("f")).unwrap();
        let _lock = RealFiles.lock(&sub.join("lock")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&sub), 0o700);
        assert_eq!(mode(&sub.join("f")), 0o600);
        assert_eq!(mode(&sub.join("lock")), 0o600);
    }

    #[test]
    fn a_second_lock_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealFiles.lock(&path).unwrap();
        let Err(LockError::Held(holder)) = RealFiles.lock(&path) else { panic!("locked twice") };
        assert_eq!(holder, std::process::id().to_string());
        drop(held);
        assert!(RealFiles.lock(&path).is_ok());
    }

    #[test]
    fn a_file_knows_whether_it_is_still_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (sub, elsewhere) = (dir.path().join("a"), dir.path().join("b"));
        RealFiles.create_dir(&sub).unwrap();
        let path = sub.join("f");
        let file = RealFiles.create(&path).unwrap();
        let lock = RealFiles.lock(&sub.join("lock")).unwrap();
        assert!(file.is_at(&path) && lock.is_in_place());
        fs::rename(&sub, &elsewhere).unwrap();
        assert!(!file.is_at(&path) && !lock.is_in_place(), "moved");
        RealFiles.create_dir(&sub).unwrap();
        RealFiles.create(&path).unwrap();
        assert!(!file.is_at(&path) && !lock.is_in_place(), "another one in its place");
        fs::remove_dir_all(&sub).unwrap();
        fs::rename(&elsewhere, &sub).unwrap();
        assert!(file.is_at(&path) && lock.is_in_place(), "back again");
    }

    #[test]
    fn a_file_is_written_and_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealFiles.create(&dir.path().join("f")).unwrap();
        write_all(&*file, b"hello", 3).unwrap();
        file.sync().unwrap();
        let mut into = [9; 10];
        assert_eq!(read_full(&*file, &mut into, 0).unwrap(), 8);
        assert_eq!(&into[..8], b"\0\0\0hello");
        assert!(RealFiles.create(&dir.path().join("f")).is_err());
        assert!(RealFiles.available(dir.path()).unwrap() > 0);
    }
}
