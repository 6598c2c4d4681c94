//! The profiles of a person: read from `client.toml`, and the one that a command means.

use std::io::ErrorKind;

use super::folders::ClientFolders;
use super::{Profile, SignInError, published};
use crate::config::client::ClientConfig;

/// Largest `client.toml`, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// All profiles of `folders`: those of the person's own file, and accepted ones.
pub fn load(folders: &ClientFolders) -> Result<ClientConfig, SignInError> {
    let mut config = load_own(folders)?;
    published::add_to(&mut config, folders)?;
    Ok(config)
}

fn load_own(folders: &ClientFolders) -> Result<ClientConfig, SignInError> {
    let path = folders.config.join("client.toml");
    let failed = |problem: String| SignInError::File { path: path.clone(), problem };
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(ClientConfig::default()),
        Err(error) => return Err(failed(error.to_string())),
        Ok(file) if file.len() > MAX_FILE_BYTES => {
            return Err(failed("the file is longer than 1 MiB".into()));
        }
        Ok(_) => {}
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    Ok(ClientConfig::from_toml(&text, &path)?)
}

/// The profile that a command means: the one called `name`, or the default, or the only one.
pub fn select(config: ClientConfig, name: Option<&str>) -> Result<Profile, SignInError> {
    let ClientConfig { default, profiles } = config;
    let known = profiles.iter().map(|profile| profile.name.as_str()).collect::<Vec<_>>().join(", ");
    if profiles.is_empty() {
        return Err(SignInError::Profile(
            "there is no profile: write client.toml (docs/for-users/sign-in.md), or run `pgpassport login https://…` with \
             the address that your administrators give"
                .into(),
        ));
    }
    let wanted = name.map(str::to_owned).or(default);
    match wanted {
        Some(wanted) => profiles.into_iter().find(|profile| profile.name == wanted).ok_or_else(|| {
            SignInError::Profile(format!("there is no profile {wanted:?}; there are: {known}"))
        }),
        None => {
            let several =
                || SignInError::Profile(format!("which profile? Use --profile with one of: {known}"));
            let mut profiles = profiles;
            let last = profiles.pop().ok_or_else(several)?;
            if profiles.is_empty() { Ok(last) } else { Err(several()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str], default: Option<&str>) -> ClientConfig {
        let text = names.iter().fold(String::new(), |text, name| {
            text + &format!(
                "[[profile]]\nname = {name:?}\nissuer = \"https://i\"\nclient_id = \"c\"\nproxy = \"p\"\n"
            )
        });
        ClientConfig { default: default.map(str::to_owned), ..ClientConfig::from_toml(&text, "c").unwrap() }
    }

    #[test]
    fn a_profile_is_named_or_the_default_or_the_only_one() {
        let chosen =
            |names: &[&str], default, name| select(config(names, default), name).map(|found| found.name);
        assert_eq!(chosen(&["a"], None, None).unwrap(), "a");
        assert_eq!(chosen(&["a", "b"], Some("b"), None).unwrap(), "b");
        assert_eq!(chosen(&["a", "b"], Some("b"), Some("a")).unwrap(), "a");
        for (names, default, name) in [
            (&["a", "b"][..], None, None),
            (&["a"], None, Some("x")),
            (&["a"], Some("x"), None),
            (&[], None, None),
        ] {
            assert!(matches!(chosen(names, default, name), Err(SignInError::Profile(_))), "{names:?}");
        }
    }
}
