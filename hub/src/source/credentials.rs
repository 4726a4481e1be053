//! Who we are at a registry: what `docker login` stored, read where Docker keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::SourceError;

/// Docker's file, or a helper's answer, larger than this is something else.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Under which Docker keeps the login of its own registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The user name by which helpers and files mark a token that only Docker's own login service takes.
const TOKEN_USER: &str = "<token>";

/// The part of Docker's `config.json` that says who we are.
#[derive(Default, Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Stored>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

/// Who we are at a registry.
#[derive(PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) secret: Zeroizing<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}

/// One stored login.
#[derive(Default, Deserialize)]
struct Stored {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<String>,
}

/// What a credential helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    username: String,
    secret: String,
}

/// Asks the helper of this name about a registry; `None` when it knows none.
type AskHelper = dyn Fn(&str, &str) -> Result<Option<Helped>, String>;

/// Finds the login for a registry; without one it is asked as a stranger.
pub(super) fn find(host: &str) -> Result<Option<Login>, SourceError> {
    let refuse = |reason: String| SourceError::Credentials { host: host.to_owned(), reason };
    let Some(path) = config_path() else { return Ok(None) };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(format!("{}: {error}", path.display()))),
    };
    let config = read_config(file).map_err(|reason| refuse(format!("{}: {reason}", path.display())))?;
    choose(&config, host, &ask_helper).map_err(refuse)
}

fn config_path() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = named("DOCKER_CONFIG").or_else(|| Some(named("HOME")?.join(".docker")));
    folder.map(|folder| folder.join("config.json"))
}

fn read_config(file: std::fs::File) -> Result<DockerConfig, String> {
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    // The parser's words may quote what it read, and what it read are secrets.
    serde_json::from_slice(&bytes).map_err(|error| {
        format!("is not what Docker writes (line {}, column {})", error.line(), error.column())
    })
}

/// Chooses as Docker does: the helper of this registry, then the store of all, then what the file holds.
fn choose(config: &DockerConfig, host: &str, ask: &AskHelper) -> Result<Option<Login>, String> {
    let keys = keys_of(host);
    let helper = keys.iter().find_map(|key| config.helpers.get(key)).or(config.store.as_ref());
    // A helper is asked for the one name that Docker stores under; a file may have been written by hand.
    if let (Some(helper), Some(key)) = (helper, keys.first())
        && let Some(found) = ask(helper, key)?
    {
        return login(found.username, found.secret.into());
    }
    let Some(stored) = keys.iter().find_map(|key| config.auths.get(key)) else { return Ok(None) };
    if stored.identity_token.as_ref().is_some_and(|token| !token.is_empty()) {
        return login(TOKEN_USER.to_owned(), Zeroizing::default());
    }
    if let (Some(user), Some(password)) = (&stored.username, &stored.password) {
        return login(user.clone(), password.clone().into());
    }
    // With a store, the file holds the host's name alone.
    let Some(auth) = stored.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Ok(None) };
    let decoded = STANDARD.decode(auth.as_bytes()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = Zeroizing::new(decoded.ok_or("the stored login is not base64")?);
    let (user, password) = decoded.split_once(':').ok_or("the stored login has no password")?;
    login(user.to_owned(), Zeroizing::new(password.trim_end_matches('\0').to_owned()))
}

fn login(user: String, secret: Zeroizing<String>) -> Result<Option<Login>, String> {
    if user == TOKEN_USER {
        return Err("an identity token is stored, which only Docker itself can use; \
            log in with a user name and an access token"
            .to_owned());
    }
    Ok(Some(Login { user, secret }))
}

/// The names under which a registry's login may stand.
fn keys_of(host: &str) -> Vec<String> {
    if matches!(host, "docker.io" | "index.docker.io") {
        return [DOCKER_HUB, "index.docker.io", "docker.io"].map(str::to_owned).to_vec();
    }
    ["", "/", "/v1/", "/v2/"]
        .iter()
        .flat_map(|path| [format!("{host}{path}"), format!("https://{host}{path}")])
        .collect()
}

/// Asks `docker-credential-NAME`, as Docker would; `None` when it knows no such registry.
fn ask_helper(name: &str, key: &str) -> Result<Option<Helped>, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(plain) {
        return Err("the name of the credential helper is not one of a program".to_owned());
    }
    let program = format!("docker-credential-{name}");
    let failed = |error: std::io::Error| format!("{program}: {error}");
    let mut child = Command::new(Path::new(&program))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    if let Some(mut questions) = child.stdin.take() {
        // A helper that has ended already says by its exit code why.
        let _ = questions.write_all(key.as_bytes());
    }
    let mut answer = Vec::new();
    if let Some(answers) = child.stdout.take() {
        answers.take(CONFIG_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
    }
    if !child.wait().map_err(failed)?.success() {
        let said = String::from_utf8_lossy(&answer);
        return match said.contains("not found") {
            true => Ok(None),
            false => Err(format!("{program}: {}", said.trim().chars().take(200).collect::<String>())),
        };
    }
    serde_json::from_slice(&answer)
        .map(Some)
        .map_err(|_| format!("{program} did not answer as a helper does"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).expect("a configuration")
    }

    fn nobody(_: &str, _: &str) -> Result<Option<Helped>, String> {
        panic!("no helper is named")
    }

    fn known(user: &str, secret: &str) -> Result<Option<Login>, String> {
        login(user.to_owned(), Zeroizing::new(secret.to_owned()))
    }

    #[test]
    fn a_login_is_found_under_every_name_that_docker_writes() {
        let auth = STANDARD.encode("anna:se:cret");
        for key in ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v2/"] {
            let config = config(&format!(r#"{{"auths": {{"{key}": {{"auth": "{auth}"}}}}}}"#));
            assert!(choose(&config, "r.example:5000", &nobody) == known("anna", "se:cret"), "{key}");
            assert!(choose(&config, "r.example", &nobody) == Ok(None));
        }
        let config = config(&format!(r#"{{"auths": {{"{DOCKER_HUB}": {{"auth": "{auth}"}}}}}}"#));
        assert!(choose(&config, "docker.io", &nobody) == known("anna", "se:cret"));
    }

    #[test]
    fn the_registrys_own_helper_goes_before_the_store_and_the_file() {
        let ask = |name: &str, key: &str| {
            let known = key == "r.example";
            Ok(known.then(|| Helped { username: name.to_owned(), secret: "s".to_owned() }))
        };
        let text = r#"{"credsStore": "all", "credHelpers": {"r.example": "one"},
            "auths": {"other.example": {"username": "u", "password": "p"}}}"#;
        assert!(choose(&config(text), "r.example", &ask) == known("one", "s"));
        assert!(choose(&config(text), "other.example", &ask) == known("u", "p"));
        let store = text.replace(r#""credHelpers": {"r.example": "one"},"#, "");
        assert!(choose(&config(&store), "r.example", &ask) == known("all", "s"));
    }

    #[test]
    fn what_cannot_be_used_is_said_without_the_secret() {
        for text in [
            r#"{"auths": {"r.example": {"identitytoken": "hush"}}}"#,
            r#"{"auths": {"r.example": {"auth": "hush!"}}}"#,
            r#"{"credsStore": "../hush"}"#,
        ] {
            let refused = choose(&config(text), "r.example", &ask_helper).expect_err(text);
            assert!(!refused.contains("hush"), "{refused}");
        }
        let mut file = tempfile::tempfile().expect("a scratch file");
        file.write_all(br#"{"auths": {"r.example": {"auth": ["hush"]}}}"#).expect("a scratch file");
        std::io::Seek::rewind(&mut file).expect("a scratch file");
        let refused = read_config(file).err().expect("a list is no login");
        assert!(refused.contains("line 1") && !refused.contains("hush"), "{refused}");
    }
}
