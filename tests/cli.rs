//! The command line through the real binary: what it prints, where, and how it ends.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Helpers outside of test functions are test code too.

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

/// An adapter of the operator's own, with one golden case.
const ACME: &str = r#"
adapter = { name = "Acme", docs = "https://example.com/docs", checked = "2026-07" }
[settings]
key = { type = "secret", doc = "API key" }
region = { type = "choice", choices = ["us", "eu"], default = "us", doc = "Where the data lives" }
[identity]
key = ["{user_id}"]
[[request]]
url = "https://{settings.region}.example.com/users"
headers = { Authorization = "Bearer {settings.key}" }
body = { id = "{identity}", mail = "{traits.email}", big = "{custom.big}" }
"#;

const CASE: &str = r#"{ "about": "a user with an address", "settings": { "key": "k-123" }, "now": "2026-08-01T12:00:05Z",
  "events": [ { "type": "identify", "messageId": "m-1", "userId": "u_42", "traits": { "email": "ada@example.com" } } ],
  "exchanges": [ { "request": { "method": "POST", "url": "https://us.example.com/users",
    "headers": { "Content-Type": "application/json", "Authorization": "Bearer k-123" },
    "body": { "id": "u_42", "mail": "ada@example.com" } }, "response": { "status": 200 } } ],
  "outcomes": [ { "delivered": true } ] }"#;

const GOOD: &str = r#"
adapters_dir = "own"
[[sources]]
name = "web"
write_key = "${WRITE_KEY}"
[destinations.first]
adapter = "acme"
settings = { key = "${ACME_KEY}" }
[destinations.second]
adapter = "acme"
enabled = false
settings = { key = "${NOT_SET}" }
[destinations.third]
adapter = "acme"
paused = true
sources = ["web"]
settings = { key = "k-3", region = "eu" }
"#;

const VARIABLES: &[(&str, &str)] = &[("WRITE_KEY", "0123456789"), ("ACME_KEY", "k-123")];

fn with_adapter() -> Folder {
    let folder = Folder::with(GOOD);
    std::fs::create_dir_all(folder.path("own/acme/cases")).unwrap();
    std::fs::write(folder.path("own/acme/manifest.toml"), ACME).unwrap();
    std::fs::write(folder.path("own/acme/cases/one.json"), CASE).unwrap();
    folder
}

fn lines_of_json(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn check_says_what_would_run() {
    let folder = with_adapter();
    let (code, out, err) = parts(&folder.run(&["check"], VARIABLES));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_eq!(
        out,
        "fanout.toml can be used.\n\n\
         PART             WHERE\n\
         tracking API     http://127.0.0.1:8080\n\
         health, metrics  http://127.0.0.1:8081\n\
         data directory   fanout-data, at most 10 GiB\n\n\
         SOURCE  STATE\n\
         web     enabled\n\n\
         DESTINATION  ADAPTER  STATE     SOURCES\n\
         first        acme     enabled   all\n\
         second       acme     disabled  all\n\
         third        acme     paused    web\n"
    );
    assert_eq!(parts(&folder.run(&["check", "--json"], VARIABLES)), (0, "[]\n".to_owned(), String::new()));
}

#[test]
fn check_places_what_an_adapter_says_about_its_settings() {
    let folder = with_adapter();
    std::fs::write(folder.path("fanout.toml"), GOOD.replace("region = \"eu\"", "regoin = \"eu\"")).unwrap();
    let (code, out, _) = parts(&folder.run(&["check"], &[("WRITE_KEY", "0123456789")]));
    assert_eq!(code, 2);
    assert_eq!(
        out,
        "fanout.toml:8:20: error: the environment variable `ACME_KEY` is not set\n    \
         set `ACME_KEY`, or write the value itself\n\
         fanout.toml:17:27: error: unknown setting regoin\n    did you mean region?\n\
         2 errors, 0 warnings\n"
    );
}

#[test]
fn adapters_are_listed_and_described() {
    let folder = with_adapter();
    let (code, out, _) = parts(&folder.run(&["adapters"], &[]));
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let has = |wanted: &str| lines.iter().any(|line| line.starts_with(wanted));
    assert!(code == 0 && has("mixpanel Mixpanel built in "), "{out}");
    assert!(out.starts_with("ADAPTER ") && has("acme Acme own/acme "), "{out}");
    let (code, out, _) = parts(&folder.run(&["adapters", "acme"], &[]));
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "Acme\nhttps://example.com/docs (checked 2026-07)\n\n\
         SETTING  HOLDS    DEFAULT        MEANING\n\
         key      secret   must be given  API key\n\
         region   us | eu  \"us\"           Where the data lives\n\n\
         In the configuration:\n\n[destinations.acme]\nsettings = { key = \"${ACME_KEY}\" }\n"
    );
    let (_, out, _) = parts(&folder.run(&["adapters", "acme", "--json"], &[]));
    let adapter = &lines_of_json(&out)[0];
    assert_eq!((&adapter["name"], &adapter["settings"][0]["secret"]), (&"acme".into(), &true.into()));
    let (_, out, _) = parts(&folder.run(&["adapters", "--json"], &[]));
    assert!(lines_of_json(&out)[0].as_array().unwrap().iter().any(|adapter| adapter["vendor"] == "Mixpanel"));
    let (code, out, err) = parts(&folder.run(&["adapters", "mixpannel"], &[]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "fanout: there is no adapter `mixpannel`; did you mean `mixpanel`?\n");
}

#[test]
fn preview_writes_one_line_for_each_destination() {
    let folder = with_adapter();
    let call = r#"{"userId":"u1","integrations":{"third":false},"traits":{"email":"ada@example.com","big":12345678901234567890123}}"#;
    std::fs::write(folder.path("call.json"), call).unwrap();
    let (code, out, err) = parts(&folder.run(&["preview", "--event", "call.json", "--json"], VARIABLES));
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert_eq!(
        lines[0],
        r#"{"destination":"first","adapter":"acme","outcome":"send","warnings":[],"requests":[{"method":"POST","url":"https://us.example.com/users","headers":{"Content-Type":"application/json","Authorization":"Bearer ***"},"body":{"id":"u1","mail":"ada@example.com","big":12345678901234567890123}}]}"#
    );
    let lines = lines_of_json(&out);
    for (line, reason) in [(1, "disabled: "), (2, "integrations: ")] {
        assert_eq!(
            (&lines[line]["outcome"], &lines[line]["requests"]),
            (&"skip".into(), &serde_json::json!([]))
        );
        assert!(lines[line]["reason"].as_str().unwrap().starts_with(reason), "{}", lines[line]);
    }
    assert!(!out.contains("k-123"));
}

#[test]
fn preview_takes_the_vendors_answers() {
    let folder = with_adapter();
    let preview = |answers: &str| {
        std::fs::write(folder.path("answers.json"), answers).unwrap();
        let arguments =
            ["preview", "--json", "--to", "first", "--responses", "answers.json", "--event", "call.json"];
        parts(&folder.run(&arguments, VARIABLES))
    };
    std::fs::write(folder.path("call.json"), r#"{"userId":"u1","traits":{"email":"ada@example.com"}}"#)
        .unwrap();
    // This adapter makes one request, whatever is answered.
    for (answers, warnings) in [
        ("[]", serde_json::json!([])),
        (r#"[{"none":"timeout"}]"#, serde_json::json!([])),
        (
            r#"[{"status":500},{"status":200,"body":{"id":1}}]"#,
            serde_json::json!(["responses: 1 of 2 were asked for; the rest was not needed"]),
        ),
    ] {
        let (code, out, err) = preview(answers);
        assert_eq!((code, err.as_str()), (0, ""), "{answers}");
        let line = &lines_of_json(&out)[0];
        assert_eq!(
            (line["requests"].as_array().unwrap().len(), &line["warnings"]),
            (1, &warnings),
            "{answers}"
        );
    }
    for (answers, message) in [
        ("{", "answers.json: it is no JSON: "),
        ("{}", "answers.json: it must be a list of answers, such as [{\"status\": 200, \"body\": {}}]"),
        (
            r#"[{"status":200},{"stats":200}]"#,
            "answer 1, counted from 0: an answer needs a \"status\" or \"none\"",
        ),
        (r#"[{"none":"maybe"}]"#, "\"none\" is \"maybe\"; allowed: timeout, connection, refused"),
    ] {
        let (code, out, err) = preview(answers);
        assert_eq!((code, out.as_str()), (1, ""), "{answers}");
        assert!(err.contains(message), "{err}");
    }
    let (code, _, err) = parts(&folder.run(&["preview", "--responses", "gone.json"], VARIABLES));
    assert_eq!(code, 1);
    assert!(err.contains("cannot read gone.json"), "{err}");
}

#[test]
fn a_destination_may_take_calls_that_do_not_name_it_or_not() {
    let destination = |name: &str, line: &str| {
        format!(
            "[destinations.{name}]\nadapter = \"salesforce\"\n{line}\nsettings = {{ login_host = \"a.my.salesforce.com\", \
             client_id = \"c\", client_secret = \"s3cret\", external_id_field = \"Id__c\" }}\n"
        )
    };
    let config = [("first", ""), ("second", "opt_in = false"), ("third", "opt_in = true")];
    let folder = Folder::with(&config.map(|(name, line)| destination(name, line)).concat());
    std::fs::write(folder.path("call.json"), r#"{"userId":"u","traits":{"lastName":"B"}}"#).unwrap();
    let (code, out, err) = parts(&folder.run(&["preview", "--event", "call.json", "--json"], &[]));
    assert_eq!(code, 0, "{err}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["skip", "send", "skip"], "{out}");
    assert!(lines[0]["reason"].as_str().unwrap().contains("set opt_in = false"), "{out}");
}

#[test]
fn preview_shows_secrets_only_when_asked() {
    let folder = with_adapter();
    let arguments = ["preview", "--to", "third", "--show-secrets", "--event", "call.json"];
    std::fs::write(folder.path("call.json"), r#"{"userId":"u1","traits":{"email":"ada@example.com"}}"#)
        .unwrap();
    let (code, out, _) = parts(&folder.run(&arguments, VARIABLES));
    assert_eq!(code, 0);
    for part in [
        "third (acme): would be sent 1 request\n",
        "  POST https://eu.example.com/users\n",
        "Bearer k-3",
        "warning: paused",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
}

#[test]
fn preview_without_a_call_takes_the_specifications_example() {
    let folder = with_adapter();
    let (code, out, _) = parts(&folder.run(&["preview", "--json", "--to", "first"], VARIABLES));
    let line = &lines_of_json(&out)[0];
    assert_eq!((code, &line["outcome"]), (0, &"skip".into()));
    assert!(line["reason"].as_str().unwrap().starts_with("integrations: "), "{line}");
    let (_, out, _) = parts(&folder.run(&["preview", "--to", "first"], VARIABLES));
    assert!(out.ends_with("; give one of your own with --event FILE\n"), "{out}");
}

#[test]
fn preview_asks_sources_when_it_is_told_one() {
    let folder = with_adapter();
    std::fs::write(folder.path("call.json"), r#"{"userId":"u1","traits":{}}"#).unwrap();
    for (source, outcome) in [("web", "send"), ("app", "skip")] {
        let arguments = ["preview", "--json", "--to", "third", "--source", source, "--event", "call.json"];
        let (_, out, _) = parts(&folder.run(&arguments, VARIABLES));
        assert_eq!(lines_of_json(&out)[0]["outcome"], outcome);
    }
}

#[test]
fn preview_explains_what_it_cannot_take() {
    let folder = with_adapter();
    for (call, message) in [
        ("{", "the call would be refused: the body is no JSON"),
        ("{\"traits\":{}}", "the call would be refused: neither userId nor anonymousId is given"),
        ("{\"batch\":[]}", "this is a batch; give one of its calls"),
        ("{\"type\":\"identfy\",\"userId\":\"u\"}", "`identfy` is no type of call; use `identify`"),
    ] {
        std::fs::write(folder.path("call.json"), call).unwrap();
        let (code, out, err) = parts(&folder.run(&["preview", "--event", "call.json"], VARIABLES));
        assert_eq!((code, out.as_str()), (1, ""), "{call}");
        assert!(err.contains(message), "{err}");
    }
    let (code, _, err) = parts(&folder.run(&["preview", "--to", "frist"], VARIABLES));
    assert_eq!((code, err.as_str()), (2, "fanout: there is no destination `frist`; did you mean `first`?\n"));
    let (code, out, err) = parts(&folder.run(&["preview"], &[]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("fanout.toml:5:13: error: the environment variable `WRITE_KEY` is not set"),
        "{err}"
    );
}

#[test]
fn cases_of_an_adapter_are_run_and_rewritten() {
    let folder = with_adapter();
    std::fs::write(
        folder.path("own/acme/conformance.toml"),
        "[[waive]]\ncheck = \"200-error\"\nreason = \"it has none\"\n",
    )
    .unwrap();
    let (code, out, err) = parts(&folder.run(&["test-adapter", "own/acme"], &[]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.starts_with(
            "ok   one.json: a user with an address\n1 case, 0 failed\n\
             no case ends with: skip, rejected, retry; a complete adapter shows each\n\n\
             ok     success: a golden case ends delivered\n"
        ),
        "{out}"
    );
    assert!(out.contains("\nwaived 200-error: it has none\n"), "{out}");
    assert!(out.ends_with(" checks, 0 failed, 1 waived\n"), "{out}");
    let case = folder.path("own/acme/cases/one.json");
    std::fs::write(&case, CASE.replace("\"mail\"", "\"email\"")).unwrap();
    let (_, out, _) = parts(&folder.run(&["test-adapter", "own/acme"], &[]));
    assert!(out.contains("\n--update writes what was seen"), "{out}");
    assert!(out.ends_with("the conformance checks run once every case passes\n"), "{out}");
    let (code, out, _) = parts(&folder.run(&["test-adapter", "own/acme", "--json"], &[]));
    assert_eq!((code, &lines_of_json(&out)[0]["cases"][0]["passed"]), (1, &false.into()));
    let (code, out, _) = parts(&folder.run(&["test-adapter", "own/acme", "--update"], &[]));
    assert!(code == 0 && std::fs::read_to_string(&case).unwrap().contains("\"mail\""), "{out}");
}

#[test]
fn an_adapter_that_a_hard_vendor_breaks_fails() {
    let folder = with_adapter();
    let careless = format!("{ACME}outcomes = [{{ status = 500, then = \"rejected\" }}]\n");
    std::fs::write(folder.path("own/acme/manifest.toml"), careless).unwrap();
    let (code, out, _) = parts(&folder.run(&["test-adapter", "own/acme"], &[]));
    assert_eq!(code, 1, "{out}");
    assert!(
        out.contains(
            "\nFAIL   500: 500: tried again\n       one.json, request 0 (main): ended as Rejected, \
             reason \"the vendor answered 500\"; wanted retry or throttled\n"
        ),
        "{out}"
    );
    assert!(
        out.contains("FAIL   200-error") && out.contains("is waived, with the reason, in conformance.toml")
    );
    let (code, out, _) = parts(&folder.run(&["test-adapter", "own/acme", "--json"], &[]));
    let suite = &lines_of_json(&out)[0]["conformance"];
    assert_eq!((code, &suite["passed"]), (1, &false.into()));
    let checks = suite["checks"].as_array().unwrap();
    let failed: Vec<&str> = checks
        .iter()
        .filter(|check| check["passed"] == false)
        .filter_map(|check| check["check"].as_str())
        .collect();
    assert_eq!(failed, ["200-error", "500"]);
}

#[test]
fn a_folder_without_adapter_or_cases_is_explained() {
    let folder = with_adapter();
    let (code, _, err) = parts(&folder.run(&["test-adapter", "own"], &[]));
    assert!(code == 2 && err.starts_with("fanout: cannot read own/manifest.toml: "), "{err}");
    std::fs::remove_file(folder.path("own/acme/cases/one.json")).unwrap();
    let (code, _, err) = parts(&folder.run(&["test-adapter", "own/acme"], &[]));
    assert!(code == 2 && err.starts_with("fanout: own/acme/cases holds no golden case"), "{err}");
    std::fs::write(folder.path("own/acme/cases/one.json"), CASE).unwrap();
    std::fs::write(folder.path("own/acme/manifest.toml"), ACME.replace("[identity]", "[identty]")).unwrap();
    let (code, out, _) = parts(&folder.run(&["test-adapter", "own/acme"], &[]));
    assert!(code == 1 && out.contains("own/acme/manifest.toml:6:"), "{out}");
}
