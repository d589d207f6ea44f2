//! A disk in memory that fails as real ones do: it forgets or tears unsynced writes when the power goes, fails writes
//! and syncs, fills up, flips bits and loses sectors. For tests only; deterministic for a seed.
//!
//! A failed sync behaves as on Linux: what was to be written counts as clean afterwards, may or may not have reached
//! the disk, and is still what a read returns until the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::files::{Disk, Files, Lock, LockError};

const SECTOR: usize = 512;
const PAGE: u64 = 4096;

/// A disk; clones share it.
#[derive(Clone)]
pub struct FaultyFiles {
    world: Arc<Mutex<World>>,
    /// Of the process that has this; the next one needs its own.
    life: u64,
}

struct World {
    random: fastrand::Rng,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    inodes: Vec<Inode>,
    locks: BTreeSet<PathBuf>,
    /// Counts processes: to those that died, everything answers with errors.
    life: u64,
    failing_writes: u32,
    failing_syncs: u32,
    failing_cuts: u32,
    failing_removes: u32,
    failing_reads: u32,
    read_only: bool,
    short_writes: bool,
    capacity: u64,
    bad_pages: BTreeSet<(PathBuf, u64)>,
    syncs: u64,
}

#[derive(Clone, Default)]
struct Inode {
    /// What a read returns.
    seen: Vec<u8>,
    /// What is on the disk for certain.
    durable: Vec<u8>,
    /// What the disk has not confirmed.
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

struct Handle {
    world: Arc<Mutex<World>>,
    path: PathBuf,
    inode: usize,
    life: u64,
}

struct Held {
    world: Arc<Mutex<World>>,
    path: PathBuf,
    life: u64,
}

impl FaultyFiles {
    /// An empty disk without faults.
    pub fn new(seed: u64) -> Self {
        let world = World {
            random: fastrand::Rng::with_seed(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            inodes: Vec::new(),
            locks: BTreeSet::new(),
            life: 0,
            failing_writes: 0,
            failing_syncs: 0,
            failing_cuts: 0,
            failing_removes: 0,
            failing_reads: 0,
            read_only: false,
            short_writes: false,
            capacity: u64::MAX,
            bad_pages: BTreeSet::new(),
            syncs: 0,
        };
        Self { world: Arc::new(Mutex::new(world)), life: 0 }
    }

    /// As a new process sees the disk.
    pub fn for_new_process(&self) -> Self {
        Self { world: Arc::clone(&self.world), life: self.world().life }
    }

    /// The next writes fail, after having written a part.
    pub fn fail_writes(&self, number: u32) {
        self.world().failing_writes = number;
    }

    /// The next syncs of files fail.
    pub fn fail_syncs(&self, number: u32) {
        self.world().failing_syncs = number;
    }

    /// The next changes of a file's length fail.
    pub fn fail_cuts(&self, number: u32) {
        self.world().failing_cuts = number;
    }

    /// The next removals of files fail.
    pub fn fail_removes(&self, number: u32) {
        self.world().failing_removes = number;
    }

    /// The next reads fail.
    pub fn fail_reads(&self, number: u32) {
        self.world().failing_reads = number;
    }

    /// Whether everything that would change something is refused, as after an error on a file system that is then
    /// mounted read-only.
    pub fn set_read_only(&self, read_only: bool) {
        self.world().read_only = read_only;
    }

    /// A page that could not be read can be read again.
    pub fn heal_page(&self, path: &Path, offset: u64) {
        self.world().bad_pages.remove(&(path.to_owned(), offset / PAGE));
    }

    /// Someone moves a file, with whatever is open of it.
    pub fn rename(&self, from: &Path, to: &Path) {
        let mut world = self.world();
        let inode = world.names.remove(from).unwrap();
        world.names.insert(to.to_owned(), inode);
    }

    /// Writes take a part of what they are given.
    pub fn shorten_writes(&self) {
        self.world().short_writes = true;
    }

    /// No more than this fits.
    pub fn set_capacity(&self, bytes: u64) {
        self.world().capacity = bytes;
    }

    /// A page of a file can no longer be read.
    pub fn spoil_page(&self, path: &Path, offset: u64) {
        self.world().bad_pages.insert((path.to_owned(), offset / PAGE));
    }

    /// How often files were synced.
    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The process dies: its files are closed and its locks gone, what it wrote is still seen.
    pub fn kill(&self) {
        self.world().kill();
    }

    /// The power goes: of what was not synced, any sector and any name may be there or not.
    pub fn cut_power(&self) {
        let world = &mut *self.world();
        world.kill();
        for inode in &mut world.inodes {
            inode.settle(&mut world.random);
        }
        let all: BTreeSet<PathBuf> = world.names.keys().chain(world.durable_names.keys()).cloned().collect();
        for path in all {
            if world.random.bool() {
                world.durable_names.remove(&path);
                let seen = world.names.get(&path).map(|inode| (path.clone(), *inode));
                world.durable_names.extend(seen);
            }
        }
        world.names = world.durable_names.clone();
    }

    /// What is in a file.
    pub fn content(&self, path: &Path) -> Vec<u8> {
        let world = self.world();
        world.inodes[world.names[path]].seen.clone()
    }

    /// Puts durable bytes into a file, which is created if missing.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.world();
        world.inodes.push(Inode { seen: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() });
        let inode = world.inodes.len() - 1;
        world.names.insert(path.to_owned(), inode);
        world.durable_names.insert(path.to_owned(), inode);
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn living(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world();
        if world.life == self.life { Ok(world) } else { Err(broken()) }
    }
}

impl World {
    fn kill(&mut self) {
        self.life += 1;
        self.locks.clear();
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[*inode].seen.len() as u64).sum()
    }
}

impl Inode {
    /// Decides what of the unsynced changes is on the disk.
    fn settle(&mut self, random: &mut fastrand::Rng) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Length(length) if random.bool() => self.durable.resize(length, 0),
                Change::Length(_) => {}
                Change::Write(offset, bytes) => tear(&mut self.durable, offset, &bytes, random),
            }
        }
        self.seen = self.durable.clone();
    }
}

/// Writes some of the sectors: none, all, or any.
fn tear(into: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut fastrand::Rng) {
    let kept = random.u8(0..4);
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + SECTOR - (offset + at) % SECTOR).min(bytes.len());
        if kept == 3 || (kept > 0 && random.bool()) {
            overwrite(into, offset + at, &bytes[at..end]);
        }
        at = end;
    }
}

fn overwrite(into: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[offset..end].copy_from_slice(bytes);
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())
}

impl Files for FaultyFiles {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.living()?;
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        let mut world = self.living()?;
        world.check_writable()?;
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.inodes.push(Inode::default());
        let inode = world.inodes.len() - 1;
        world.names.insert(path.to_owned(), inode);
        let (life, path) = (world.life, path.to_owned());
        Ok(Box::new(Handle { world: Arc::clone(&self.world), path, inode, life }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Disk>> {
        let world = self.living()?;
        let inode = *world.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let (life, path) = (world.life, path.to_owned());
        Ok(Box::new(Handle { world: Arc::clone(&self.world), path, inode, life }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.living()?;
        world.check_writable()?;
        if due(&mut world.failing_removes) {
            return Err(broken());
        }
        world.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let world = &mut *self.living()?;
        world.durable_names.retain(|path, _| path.parent() != Some(dir));
        let inside = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        world.durable_names.extend(inside.map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn available(&self, _: &Path) -> io::Result<u64> {
        let world = self.living()?;
        Ok(world.capacity.saturating_sub(world.used()))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn Lock>, LockError> {
        let mut world = self.living()?;
        if !world.locks.insert(path.to_owned()) {
            return Err(LockError::Held("1".to_owned()));
        }
        let (life, path) = (world.life, path.to_owned());
        Ok(Box::new(Held { world: Arc::clone(&self.world), path, life }))
    }
}

impl Lock for Held {
    fn is_in_place(&self) -> bool {
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut world = self.world.lock().unwrap();
        if world.life == self.life {
            world.locks.remove(&self.path);
        }
    }
}

impl Handle {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world.lock().unwrap();
        if world.life == self.life { Ok(world) } else { Err(broken()) }
    }
}

/// Uses up one of a number of planned faults.
fn due(faults: &mut u32) -> bool {
    let due = *faults > 0;
    *faults = faults.saturating_sub(1);
    due
}

impl Disk for Handle {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        if due(&mut world.failing_reads) {
            return Err(broken());
        }
        let seen = &world.inodes[self.inode].seen;
        let from = (offset as usize).min(seen.len());
        let length = into.len().min(seen.len() - from);
        let mut pages = offset / PAGE..(offset + length as u64).div_ceil(PAGE);
        if pages.any(|page| world.bad_pages.contains(&(self.path.clone(), page))) {
            return Err(broken());
        }
        into[..length].copy_from_slice(&seen[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let world = &mut *self.world()?;
        world.check_writable()?;
        let fails = due(&mut world.failing_writes);
        let length =
            if fails || world.short_writes { world.random.usize(0..=bytes.len()) } else { bytes.len() };
        let grows = (offset + length as u64).saturating_sub(world.inodes[self.inode].seen.len() as u64);
        let full = world.used() + grows > world.capacity;
        let written = if full { length / 2 } else { length.max(usize::from(!fails)) };
        let inode = &mut world.inodes[self.inode];
        overwrite(&mut inode.seen, offset as usize, &bytes[..written]);
        inode.unsynced.push(Change::Write(offset as usize, bytes[..written].to_vec()));
        match (full, fails) {
            (true, _) => Err(io::ErrorKind::StorageFull.into()),
            (_, true) => Err(broken()),
            _ => Ok(written),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let world = &mut *self.world()?;
        world.check_writable()?;
        world.syncs += 1;
        let fails = due(&mut world.failing_syncs);
        let inode = &mut world.inodes[self.inode];
        if fails {
            let seen = inode.seen.clone();
            inode.settle(&mut world.random);
            inode.seen = seen;
            return Err(broken());
        }
        // What a failed sync had dropped is clean to the system, and not written again.
        for change in std::mem::take(&mut inode.unsynced) {
            match change {
                Change::Length(length) => inode.durable.resize(length, 0),
                Change::Write(offset, bytes) => overwrite(&mut inode.durable, offset, &bytes),
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let world = &mut *self.world()?;
        world.check_writable()?;
        if due(&mut world.failing_cuts) {
            return Err(broken());
        }
        let inode = &mut world.inodes[self.inode];
        inode.seen.resize(bytes as usize, 0);
        inode.unsynced.push(Change::Length(bytes as usize));
        Ok(())
    }

    fn forget(&self, offset: u64) {
        let Ok(mut world) = self.world() else { return };
        let inode = &mut world.inodes[self.inode];
        let offset = offset as usize;
        if inode.unsynced.is_empty() && offset <= inode.seen.len() {
            let length = inode.seen.len();
            inode.seen.truncate(offset);
            inode.seen.extend_from_slice(inode.durable.get(offset..).unwrap_or_default());
            inode.seen.resize(length, 0);
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world()?.inodes[self.inode].seen.len() as u64)
    }

    fn is_at(&self, path: &Path) -> bool {
        self.world().is_ok_and(|world| world.names.get(path) == Some(&self.inode))
    }
}
