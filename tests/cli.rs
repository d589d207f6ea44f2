//! The command line through the real binary: what it prints, where, and how it ends.

use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder with a configuration file in it, removed at the end.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(config: &str) -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        std::fs::write(folder.path("fanout.toml"), config).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `fanout` there, with nothing in its environment but these variables.
    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments).envs(variables.iter().copied()).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
        command.args(arguments).current_dir(self.0.path()).env_clear();
        command
    }
}

/// Exit code, standard output and standard error.
fn parts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const BAD: &str = "[server]\nlisen = \"127.0.0.1:1\"\n[[sources]]\nname = \"web\"\nwrite_key = \"short\"\n";

#[test]
fn check_reports_every_problem_with_its_place_and_remedy() {
    let (code, out, err) = parts(&Folder::with(BAD).run(&["check"], &[]));
    assert_eq!((code, err.as_str()), (2, ""));
    assert_eq!(
        out,
        "fanout.toml:1:1: warning: no destination is enabled: calls are accepted and delivered nowhere\n    \
         add a [destinations.NAME] table, or set `enabled = true` in one; `fanout adapters` lists the vendors\n\
         fanout.toml:2:1: error: unknown key `server.lisen`\n    did you mean `listen`?\n\
         fanout.toml:5:13: warning: the write key of `web` is shorter than 8 characters\n    \
         use a long random one, such as from `openssl rand -hex 16`\n\
         1 error, 2 warnings\n"
    );
}

#[test]
fn check_writes_problems_as_json() {
    let (code, out, _) = parts(&Folder::with(BAD).run(&["check", "--json"], &[]));
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 2);
    assert_eq!(
        list[1],
        serde_json::json!({ "severity": "error", "file": "fanout.toml", "line": 2, "column": 1,
            "message": "unknown key `server.lisen`", "remedy": "did you mean `listen`?" })
    );
}

#[test]
fn a_missing_file_is_explained() {
    let folder = Folder::with("");
    let (code, out, _) = parts(&folder.run(&["check", "--config", "other.toml"], &[]));
    assert_eq!(code, 2);
    assert_eq!(
        out,
        "other.toml: error: there is no such file\n    copy config.example.toml to it, name another with \
         --config FILE, or try `fanout demo`, which needs none\n1 error, 0 warnings\n"
    );
}

#[test]
fn a_file_that_is_no_text_is_explained() {
    let folder = Folder::with("");
    std::fs::write(folder.path("fanout.toml"), [0xff, 0xfe]).unwrap();
    let (code, out, _) = parts(&folder.run(&["check"], &[]));
    assert_eq!((code, out.lines().next()), (2, Some("fanout.toml: error: the file is not UTF-8 text")));
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let folder = Folder::with("");
    for arguments in [&["chekc"] as &[&str], &["check", "--jsn"], &["completions", "cmd"], &[]] {
        let (code, out, err) = parts(&folder.run(arguments, &[]));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("--help") || err.contains("Usage: fanout"), "{err}");
    }
    let (code, out, _) = parts(&folder.run(&["--help"], &[]));
    assert!(code == 0 && out.contains("Exit codes: 0 done, 1 failed, 2 wrong usage"), "{out}");
    assert_eq!(parts(&folder.run(&["--version"], &[])).0, 0);
}

#[test]
fn completions_are_a_script_for_the_shell() {
    let folder = Folder::with("");
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef fanout"), ("fish", "complete -c fanout")]
    {
        let (code, out, _) = parts(&folder.run(&["completions", shell], &[]));
        assert!(code == 0 && out.contains(word), "{shell}: {out}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Folder::with("").command(&["completions", "zsh"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}
