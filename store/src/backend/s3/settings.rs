//! Where the bucket's server is and who asks, as AWS tools are told: by the environment, then by the profile.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::profile::{self, Sections};

/// Where to ask and as whom. It holds secrets, so it has no `Debug`.
pub(crate) struct Settings {
    /// Who asks.
    pub(super) credentials: Credentials,
    /// The region, if one is named.
    pub(super) region: Option<String>,
    /// Another server than Amazon's.
    pub(super) endpoint: Option<String>,
    /// Whether the bucket is part of the host name rather than of the path.
    pub(super) virtual_host: Option<bool>,
    /// A file of certificate authorities that are trusted instead of the platform's.
    pub(super) authorities: Option<PathBuf>,
}

/// How this process proves who it is.
#[derive(PartialEq, Eq)]
pub(super) enum Credentials {
    /// A key and its secret; a token with it if they are temporary.
    Keys { id: String, secret: String, token: Option<String> },
    /// A token of an identity provider (Kubernetes service accounts) for a role.
    WebIdentity { token_file: String, role: String, session: Option<String>, sts: Option<String> },
    /// An endpoint that the container's runtime offers, by path.
    ContainerPath(String),
    /// An endpoint that the container's runtime offers, by address, with a token from a file.
    ContainerAddress { address: String, token_file: String },
    /// The role of the machine, from its metadata service.
    Instance { service: Option<String> },
}

/// Why no request can be made. No message holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("{set} is set and {missing} is not: set both")]
    Half { set: &'static str, missing: &'static str },
    #[error(
        "there is no profile `{name}` in {files}: correct AWS_PROFILE, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    NoProfile { name: String, files: String },
    #[error(
        "the profile `{name}` gets its credentials by `{key}`, which landfall does not do: give it keys by \
         `aws configure export-credentials --profile {name} --format env`"
    )]
    Indirect { name: String, key: &'static str },
    #[error("cannot read {path}: {why}")]
    Unreadable { path: String, why: String },
    #[error("{name} must begin with https:// or http:// and name a server, without a query or credentials")]
    Endpoint { name: &'static str },
    #[error("no credentials: {HOW_TO_GIVE_CREDENTIALS}")]
    NoCredentials,
}

/// What to do where nothing says who asks.
pub(super) const HOW_TO_GIVE_CREDENTIALS: &str =
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE for a profile in ~/.aws/credentials";

/// Ways of a profile to its credentials that landfall does not go.
const INDIRECT: [&str; 5] =
    ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"];

impl Settings {
    /// What this process's environment says.
    pub(crate) fn of_process() -> Result<Self, SettingsError> {
        let variable = |name: &str| std::env::var(name).ok();
        Self::read(&variable, &|path| match std::fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        })
    }

    /// What an environment and the files it leads to say.
    pub(super) fn read(
        variable: &dyn Fn(&str) -> Option<String>,
        file: &dyn Fn(&Path) -> io::Result<Option<String>>,
    ) -> Result<Self, SettingsError> {
        let given = |name: &str| {
            variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let profile = Profile::read(&given, file)?;
        let endpoint = if given("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| value == "true") {
            None
        } else {
            endpoint(&given, &profile)?
        };
        Ok(Self {
            credentials: credentials(&given, &profile)?,
            region: given("AWS_REGION")
                .or_else(|| given("AWS_DEFAULT_REGION"))
                .or_else(|| profile.get("region")),
            endpoint,
            virtual_host: profile.get("s3.addressing_style").and_then(|style| match style.as_str() {
                "virtual" => Some(true),
                "path" => Some(false),
                _ => None,
            }),
            authorities: given("AWS_CA_BUNDLE").or_else(|| profile.get("ca_bundle")).map(PathBuf::from),
        })
    }
}

type Given<'a> = &'a dyn Fn(&str) -> Option<String>;

fn credentials(given: Given<'_>, profile: &Profile) -> Result<Credentials, SettingsError> {
    let half = |set, missing| Err(SettingsError::Half { set, missing });
    match (given("AWS_ACCESS_KEY_ID"), given("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => {
            return Ok(Credentials::Keys { id, secret, token: given("AWS_SESSION_TOKEN") });
        }
        (Some(_), None) => return half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (None, Some(_)) => return half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        (None, None) => {}
    }
    if let Some(keys) = profile.keys()? {
        return Ok(keys);
    }
    if let Some(token_file) = given("AWS_WEB_IDENTITY_TOKEN_FILE") {
        let Some(role) = given("AWS_ROLE_ARN") else {
            return half("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
        };
        let (session, sts) = (given("AWS_ROLE_SESSION_NAME"), given("AWS_ENDPOINT_URL_STS"));
        return Ok(Credentials::WebIdentity { token_file, role, session, sts });
    }
    if let Some(path) = given("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") {
        return Ok(Credentials::ContainerPath(path));
    }
    if let Some(address) = given("AWS_CONTAINER_CREDENTIALS_FULL_URI")
        && let Some(token_file) = given("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    {
        return Ok(Credentials::ContainerAddress { address, token_file });
    }
    if given("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(SettingsError::NoCredentials);
    }
    Ok(Credentials::Instance { service: given("AWS_EC2_METADATA_SERVICE_ENDPOINT") })
}

fn endpoint(given: Given<'_>, profile: &Profile) -> Result<Option<String>, SettingsError> {
    let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .into_iter()
        .find_map(|name| Some((name, given(name)?)))
        .or_else(|| Some(("endpoint_url of the profile", profile.service_endpoint()?)));
    let Some((name, text)) = named else { return Ok(None) };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    // The text is not repeated: it may hold a password.
    match rest {
        Some(rest) if !rest.starts_with('/') && !rest.is_empty() && !rest.contains(['@', '?', '#', ' ']) => {
            Ok(Some(text.trim_end_matches('/').to_owned()))
        }
        _ => Err(SettingsError::Endpoint { name }),
    }
}

/// What the two files say about one profile; credentials come from either, the first file wins.
struct Profile {
    name: String,
    keys: BTreeMap<String, String>,
    services: Option<BTreeMap<String, String>>,
}

impl Profile {
    fn read(
        given: Given<'_>,
        file: &dyn Fn(&Path) -> io::Result<Option<String>>,
    ) -> Result<Self, SettingsError> {
        let chosen = given("AWS_PROFILE").or_else(|| given("AWS_DEFAULT_PROFILE"));
        let name = chosen.clone().unwrap_or_else(|| "default".to_owned());
        let home = given("HOME").map(PathBuf::from);
        let place = |variable: &str, file: &str| {
            given(variable).map(PathBuf::from).or_else(|| Some(home.as_ref()?.join(".aws").join(file)))
        };
        let places =
            [place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), place("AWS_CONFIG_FILE", "config")];
        let sections = |path: &Option<PathBuf>| -> Result<Sections, SettingsError> {
            let Some(path) = path else { return Ok(Sections::new()) };
            let text = file(path).map_err(|error| SettingsError::Unreadable {
                path: path.display().to_string(),
                why: error.to_string(),
            })?;
            Ok(text.map(|text| profile::parse(&text)).unwrap_or_default())
        };
        let [secrets, config] = &places;
        let (mut secrets, mut config) = (sections(secrets)?, sections(config)?);
        let first = secrets.remove(&name);
        let second = config.remove(&format!("profile {name}")).or_else(|| match name.as_str() {
            "default" => config.remove("default"),
            _ => None,
        });
        if chosen.is_some() && first.is_none() && second.is_none() {
            let shown: Vec<_> = places.iter().flatten().map(|path| path.display().to_string()).collect();
            let files =
                if shown.is_empty() { "~/.aws (HOME is not set)".to_owned() } else { shown.join(" or ") };
            return Err(SettingsError::NoProfile { name, files });
        }
        let mut keys = second.unwrap_or_default();
        keys.extend(first.unwrap_or_default());
        let services =
            keys.get("services").and_then(|services| config.remove(&format!("services {services}")));
        Ok(Self { name, keys, services })
    }

    fn get(&self, key: &str) -> Option<String> {
        self.keys.get(key).filter(|value| !value.is_empty()).cloned()
    }

    fn keys(&self) -> Result<Option<Credentials>, SettingsError> {
        match (self.get("aws_access_key_id"), self.get("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                Ok(Some(Credentials::Keys { id, secret, token: self.get("aws_session_token") }))
            }
            (Some(_), None) => {
                Err(SettingsError::Half { set: "aws_access_key_id", missing: "aws_secret_access_key" })
            }
            (None, Some(_)) => {
                Err(SettingsError::Half { set: "aws_secret_access_key", missing: "aws_access_key_id" })
            }
            (None, None) => match INDIRECT.into_iter().find(|key| self.keys.contains_key(*key)) {
                Some(key) => Err(SettingsError::Indirect { name: self.name.clone(), key }),
                None => Ok(None),
            },
        }
    }

    fn service_endpoint(&self) -> Option<String> {
        let of_service = self.services.as_ref().and_then(|services| services.get("s3.endpoint_url").cloned());
        of_service.or_else(|| self.get("endpoint_url"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t/in+env";

    /// Names and what is given for them.
    type Given<'a> = &'a [(&'a str, &'a str)];

    fn read(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let find = |pairs: &[(&str, &str)], name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(&|name| find(variables, name), &|path| Ok(find(files, path.to_str().unwrap())))
    }

    fn keys(id: &str, secret: &str, token: Option<&str>) -> Credentials {
        Credentials::Keys { id: id.into(), secret: secret.into(), token: token.map(Into::into) }
    }

    const BOTH: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", SECRET)];

    #[test]
    fn the_environment_gives_keys_region_and_endpoint() {
        let more =
            [("AWS_SESSION_TOKEN", "t"), ("AWS_DEFAULT_REGION", "a"), ("AWS_ENDPOINT_URL", "http://m:9000/")];
        let settings = read(&[&BOTH[..], &more].concat(), &[]).unwrap();
        assert!(settings.credentials == keys("AKIA", SECRET, Some("t")));
        assert_eq!(settings.region.as_deref(), Some("a"));
        assert_eq!(settings.endpoint.as_deref(), Some("http://m:9000"));
        let over = [
            ("AWS_REGION", "b"),
            ("AWS_ENDPOINT_URL_S3", "https://s3.example"),
            ("AWS_CA_BUNDLE", "/etc/ca.pem"),
        ];
        let settings = read(&[&BOTH[..], &more, &over].concat(), &[]).unwrap();
        assert_eq!(settings.region.as_deref(), Some("b"));
        assert_eq!(settings.authorities.as_deref(), Some(Path::new("/etc/ca.pem")));
        assert_eq!(settings.endpoint.as_deref(), Some("https://s3.example"));
    }

    #[test]
    fn a_profile_gives_what_the_environment_does_not() {
        let files = [
            ("/home/me/.aws/credentials", "[ci]\naws_access_key_id = K\naws_secret_access_key = S\n"),
            (
                "/home/me/.aws/config",
                "[profile ci]\nregion = eu-1\nca_bundle = /etc/own.pem\nservices = local\ns3 =\n  addressing_style = virtual\n\
                 [services local]\ns3 =\n  endpoint_url = http://127.0.0.1:1\n",
            ),
        ];
        let settings = read(&[("HOME", "/home/me"), ("AWS_PROFILE", "ci")], &files).unwrap();
        assert!(settings.credentials == keys("K", "S", None));
        assert_eq!(settings.region.as_deref(), Some("eu-1"));
        assert_eq!(settings.endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert_eq!(settings.virtual_host, Some(true));
        assert_eq!(settings.authorities.as_deref(), Some(Path::new("/etc/own.pem")));
        let own = [&BOTH[..], &[("HOME", "/home/me"), ("AWS_PROFILE", "ci")]].concat();
        assert!(
            read(&own, &files).unwrap().credentials == keys("AKIA", SECRET, None),
            "keys of the environment win"
        );
        let moved = [("AWS_SHARED_CREDENTIALS_FILE", "/etc/landfall/aws")];
        let here = [("/etc/landfall/aws", "[default]\naws_access_key_id=A\naws_secret_access_key=B\n")];
        assert!(read(&moved, &here).unwrap().credentials == keys("A", "B", None));
    }

    #[test]
    fn roles_are_taken_in_the_order_of_aws_tools() {
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")];
        let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c")];
        let all = [&web[..], &container].concat();
        assert!(matches!(read(&all, &[]).unwrap().credentials, Credentials::WebIdentity { .. }));
        assert!(matches!(read(&container, &[]).unwrap().credentials, Credentials::ContainerPath(_)));
        assert!(matches!(read(&[], &[]).unwrap().credentials, Credentials::Instance { service: None }));
    }

    #[test]
    fn typical_mistakes_say_what_to_set_and_never_a_secret() {
        let config = |text| [("/h/.aws/config", text)];
        let sso = config("[default]\nsso_session = x\n");
        let mistakes: [(Given<'_>, Given<'_>, &str); 7] = [
            (&BOTH[..1], &[], "AWS_SECRET_ACCESS_KEY is not"),
            (&BOTH[1..], &[], "AWS_ACCESS_KEY_ID is not"),
            (
                &[("HOME", "/h"), ("AWS_PROFILE", "ghost")],
                &[],
                "no profile `ghost` in /h/.aws/credentials or /h/.aws/config",
            ),
            (&[("HOME", "/h")], &sso, "`sso_session`"),
            (
                &[("AWS_EC2_METADATA_DISABLED", "true")],
                &[],
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ),
            (&[("AWS_ENDPOINT_URL", "minio:9000")], &[], "AWS_ENDPOINT_URL must begin with https://"),
            (&[("AWS_ENDPOINT_URL", "https://me:s3cr3t/in+env@host")], &[], "AWS_ENDPOINT_URL must begin"),
        ];
        for (variables, files, expected) in mistakes {
            let Err(error) = read(variables, files) else { panic!("{variables:?} was accepted") };
            let told = error.to_string();
            assert!(told.contains(expected) && !told.contains("s3cr3t"), "{told}");
        }
    }
}
