//! Each way to sign in, on a server that asks for it: with the right secret a frame is answered, with a wrong
//! one every command says what to set, and no secret is shown.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use async_nats::ConnectOptions;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::json;
use sferic::nats::PrivateServer;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use crate::publishing::server_with;
use crate::support::*;

/// Keys of `[nats]`, as their variables end, and their values.
pub type Keys<'a> = &'a [(&'a str, &'a str)];

/// How long a command may take that is refused, on a busy machine too.
const SECONDS: Duration = Duration::from_secs(15);

/// The command with these keys, which logs all it can.
fn with_keys(arguments: &[&str], keys: Keys<'_>) -> Command {
    let mut command = sferic(arguments);
    command.envs(keys.iter().map(|(key, value)| (format!("SFERIC__NATS__{key}"), value)));
    let log = "trace,async_nats::connection=trace,async_nats::connector=trace,rustls::client=trace";
    command.env("SFERIC__TELEMETRY__LOG", log).env("RUST_LOG", "trace").env("SFERIC__HTTP__LISTEN", "");
    command
}

fn assert_hidden(secrets: &[&str], text: &str) {
    for secret in secrets {
        // Of a key with several lines, each.
        for line in secret.lines().filter(|line| line.len() > 5 && !line.contains("-----")) {
            assert!(!text.contains(line), "{line} is shown in {text}");
        }
    }
}

/// A daemon with these keys answers a frame of a client with these options.
pub async fn assert_answered(url: &str, options: ConnectOptions, keys: Keys<'_>, secrets: &[&str]) {
    let client = options.request_timeout(Some(PATIENCE)).connect(url).await.unwrap();
    let models = repository(&["degrees"]);
    let mut command = with_keys(&["run", "--url", url], keys);
    command.env("SFERIC__MODELS__REPOSITORY", models.path()).env("SFERIC__MODELS__DEFAULT", "degrees");
    command.stderr(Stdio::piped());
    let mut daemon = Daemon::spawn_for(&client, command).await;
    let answer = client.request("iq.frames.t.rx", pack(&steady("a frame")).into()).await.unwrap();
    let answer = Reply::of(answer);
    assert_eq!((&answer.body["frame_id"], &answer.body["code"]), (&"a frame".into(), &json!(null)));
    daemon.signal("TERM").await;
    let log = daemon.stderr_to_its_end().await;
    assert!(log.contains("write operation: CONNECT"), "the library's log is on: {log}");
    assert_hidden(secrets, &log);
}

/// A command with these keys ends with the message; a daemon with them logs why it waits, in `reason`.
pub async fn assert_refused(url: &str, keys: Keys<'_>, message: &str, reason: &str, secrets: &[&str]) {
    assert_error(url, keys, message, secrets).await;
    let mut daemon = with_keys(&["run", "--url", url], keys).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    let mut lines = BufReader::new(daemon.stderr.take().unwrap());
    let reading = async {
        while !log.contains(reason) {
            assert_ne!(lines.read_line(&mut log).await.unwrap(), 0, "the daemon ended: {log}");
        }
    };
    let reads = tokio::time::timeout(PATIENCE, reading).await;
    daemon.kill().await.unwrap();
    let _ = lines.read_to_string(&mut log).await;
    assert!(reads.is_ok(), "the daemon does not say {reason:?}: {log}");
    assert_hidden(secrets, &log);
}

/// A command with these keys ends with the message, and shows no secret; neither do those that show keys.
pub async fn assert_error(url: &str, keys: Keys<'_>, message: &str, secrets: &[&str]) {
    let began = Instant::now();
    let (code, out, err) = output(&mut with_keys(&["watch", "--url", url], keys)).await;
    assert_eq!((code, out.as_str(), err.trim_end()), (1, "", format!("error: {message}").as_str()));
    assert!(began.elapsed() < SECONDS, "after {:?}", began.elapsed());
    for arguments in [&["doctor", "--url", url], &["config", "show", "--url", url][..]] {
        let (_, out, err) = output(&mut with_keys(arguments, keys)).await;
        assert_hidden(secrets, &format!("{out}{err}"));
    }
}

fn refused(url: &str, what: &str) -> String {
    format!(
        "the NATS server at {url} refuses {what} (authorization violation): set nats.user and nats.password, \
         nats.token, nats.nkey or nats.credentials, or put user:password@ or token@ before the host in the \
         address"
    )
}

/// A file with the text; its path.
pub fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn with_a_password() {
    if !tools_are_there() {
        return;
    }
    let (right, wrong) = ("correct-horse", "wrong-horse");
    let server = PrivateServer::start(&["--user", "ann", "--pass", right]).await.unwrap();
    let (url, secrets) = (server.url(), [right, wrong]);
    let options = ConnectOptions::with_user_and_password("ann".into(), right.into());
    assert_answered(url, options, &[("USER", "ann"), ("PASSWORD", right)], &secrets).await;
    let message = refused(url, "the user \"ann\" or the password");
    let keys = [("USER", "ann"), ("PASSWORD", wrong)];
    assert_refused(url, &keys, &message, "authorization violation", &secrets).await;
    let message = refused(url, "a client without user, token, NKey or credentials");
    assert_error(url, &[], &message, &secrets).await;
}

#[tokio::test]
async fn with_a_token() {
    if !tools_are_there() {
        return;
    }
    let (right, wrong) = ("correct-battery", "wrong-battery");
    let server = PrivateServer::start(&["--auth", right]).await.unwrap();
    let (url, secrets) = (server.url(), [right, wrong]);
    let options = ConnectOptions::with_token(right.into());
    assert_answered(url, options, &[("TOKEN", right)], &secrets).await;
    let message = refused(url, "the token");
    assert_refused(url, &[("TOKEN", wrong)], &message, "authorization violation", &secrets).await;
}

#[tokio::test]
async fn with_an_nkey() {
    if !tools_are_there() {
        return;
    }
    let [ann, bob] = [(); 2].map(|()| KeyPair::new_user());
    let (server, folder) =
        server_with(&format!("authorization {{ users = [{{nkey: {}}}] }}", ann.public_key())).await;
    let [right, wrong] = [&ann, &bob].map(|user| user.seed().unwrap());
    let (url, secrets) = (server.url(), [right.as_str(), wrong.as_str()]);
    let decorated = format!(
        "# Ann's.\n\n-----BEGIN USER NKEY SEED-----\n{right}\n------END USER NKEY SEED------\n\
         \n{}\n",
        ann.public_key()
    );
    for (name, text) in [("plain.nk", &format!("{right}\n")), ("decorated.nk", &decorated)] {
        let path = file(&folder, name, text);
        let options = ConnectOptions::with_nkey(right.clone());
        assert_answered(url, options, &[("NKEY", &path)], &secrets).await;
    }
    let path = file(&folder, "wrong.nk", &wrong);
    let message = refused(url, &format!("the NKey in {path}"));
    assert_refused(url, &[("NKEY", &path)], &message, "authorization violation", &secrets).await;

    let path = file(&folder, "cut.nk", &right[..57]);
    let message = format!(
        "nats.nkey, {path}, holds no NKey seed of a user: a line of 58 letters and digits that begins with SU"
    );
    assert_error(url, &[("NKEY", &path)], &message, &[&right[..57]]).await;
    let message = "nats.nkey, /nope.nk, cannot be read: No such file or directory (os error 2)";
    assert_error(url, &[("NKEY", "/nope.nk")], message, &[]).await;
}

/// The key is given where the path of its file belongs.
#[tokio::test]
async fn a_secret_in_place_of_its_file_is_not_shown() {
    let seed = KeyPair::new_user().seed().unwrap();
    let credentials = credentials(&KeyPair::new_account(), &KeyPair::new_user(), json!({}));
    for (key, secret) in [("nkey", &seed), ("credentials", &seed), ("credentials", &credentials)] {
        let keys = [(&*key.to_uppercase(), secret.as_str())];
        for arguments in [&["watch"][..], &["config", "show"], &["config", "check"], &["run"]] {
            let (code, out, err) = output(&mut with_keys(arguments, &keys)).await;
            let expected = format!("`nats.{key}` holds the secret itself, must be the path of its file");
            assert!(code == 2 && format!("{out}{err}").contains(&expected), "{code}: {out}{err}");
            assert_hidden(&[secret], &format!("{out}{err}"));
        }
    }
}

/// A JWT of NATS: `claims` about `subject`, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: serde_json::Value) -> String {
    let mut claims = claims;
    claims["iss"] = issuer.public_key().into();
    claims["sub"] = subject.public_key().into();
    claims["iat"] = 1_600_000_000.into();
    claims["nats"]["version"] = 2.into();
    let [header, claims] = [json!({"typ": "JWT", "alg": "ed25519-nkey"}), claims]
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// The text of a `.creds` file of a user of the account.
fn credentials(account: &KeyPair, user: &KeyPair, mut claims: serde_json::Value) -> String {
    claims["nats"] = json!({"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let (jwt, seed) = (jwt(account, user, claims), user.seed().unwrap());
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// A server whose users are those of the account, which the operator vouches for.
async fn server_of(operator: &KeyPair, account: &KeyPair) -> (PrivateServer, TempDir) {
    let all = ["subs", "data", "payload", "imports", "exports", "conn", "leaf"].map(|limit| (limit, -1));
    let mut limits: serde_json::Value = all.into_iter().collect();
    limits["wildcards"] = true.into();
    let of_account = jwt(operator, account, json!({"nats": {"type": "account", "limits": limits}}));
    let of_operator = jwt(operator, operator, json!({"nats": {"type": "operator"}}));
    let preloaded = format!("{}: {of_account}", account.public_key());
    let configuration =
        format!("operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{\n  {preloaded}\n}}\n");
    server_with(&configuration).await
}

#[tokio::test]
async fn with_a_credentials_file() {
    if !tools_are_there() {
        return;
    }
    let account = KeyPair::new_account();
    let (server, folder) = server_of(&KeyPair::new_operator(), &account).await;
    let url = server.url();
    let [ann, bob] = [(); 2].map(|()| KeyPair::new_user());

    let right = credentials(&account, &ann, json!({}));
    let path = file(&folder, "ann.creds", &right);
    let options = ConnectOptions::with_credentials(&right).unwrap();
    assert_answered(url, options, &[("CREDENTIALS", &path)], &[&right]).await;

    let of_others = credentials(&KeyPair::new_account(), &ann, json!({}));
    let bobs_seed = right.replace(&ann.seed().unwrap(), &bob.seed().unwrap());
    for (name, wrong) in [("others.creds", of_others), ("seed.creds", bobs_seed)] {
        let path = file(&folder, name, &wrong);
        let message = refused(url, &format!("the credentials in {path}"));
        let keys = [("CREDENTIALS", path.as_str())];
        assert_refused(url, &keys, &message, "authorization violation", &[&right, &wrong]).await;
    }

    let expired = credentials(&account, &ann, json!({"exp": 1_600_000_000}));
    let path = file(&folder, "expired.creds", &expired);
    let message = refused(url, &format!("the credentials in {path}, which expired at 2020-09-13T12:26:40Z"));
    let keys = [("CREDENTIALS", path.as_str())];
    assert_refused(url, &keys, &message, "have expired", &[&expired]).await;

    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let valid = credentials(&account, &ann, json!({"exp": now + 3600}));
    let path = file(&folder, "valid.creds", &valid);
    let options = ConnectOptions::with_credentials(&valid).unwrap();
    assert_answered(url, options, &[("CREDENTIALS", &path)], &[&valid]).await;

    let path = file(&folder, "seed.nk", &ann.seed().unwrap());
    let message = format!(
        "nats.credentials, {path}, is no credentials file: cannot parse user JWT from the credentials file"
    );
    assert_error(url, &[("CREDENTIALS", &path)], &message, &[&right]).await;
}
