//! The files in which AWS tools keep credentials and settings by profile.
//!
//! `~/.aws/credentials` has a section `[NAME]` for each profile, `~/.aws/config` a section `[profile NAME]`
//! (and `[default]`). A key of a section may have indented lines of its own below it:
//! `s3 =⏎    addressing_style = path`.

use std::collections::BTreeMap;

/// Sections by name, each with its keys; a nested key is `outer.inner`.
pub(super) type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads such a file. Lines it does not understand are passed over, as AWS tools do.
pub(super) fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut section: Option<String> = None;
    let mut outer = String::new();
    for line in text.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = bare.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = name.0.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            section = Some(name);
            continue;
        }
        let Some((key, value)) = bare.split_once('=') else { continue };
        let (key, value) = (key.trim().to_lowercase(), without_comment(value.trim()));
        let Some(keys) = section.as_ref().and_then(|name| sections.get_mut(name)) else { continue };
        if line.starts_with([' ', '\t']) && !outer.is_empty() {
            keys.insert(format!("{outer}.{key}"), value.to_owned());
            continue;
        }
        outer = if value.is_empty() { key.clone() } else { String::new() };
        keys.insert(key, value.to_owned());
    }
    sections
}

/// A comment behind a value begins with a space: secrets may have `#` in them.
fn without_comment(value: &str) -> &str {
    let end = [" #", " ;", "\t#", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    end.map_or(value, |end| value[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_comments_and_nested_keys_are_read() {
        let read = parse(
            "# mine\nstray = 1\n[default]\nregion=eu-west-1 ; near\n\n[ profile  ci ]\n\
             aws_secret_access_key = a#b=c/+\ns3 =\n  addressing_style = virtual\n\tendpoint_url = http://x\n\
             services = local\nnonsense\n",
        );
        assert_eq!(read["default"]["region"], "eu-west-1");
        let ci = &read["profile ci"];
        assert_eq!(ci["aws_secret_access_key"], "a#b=c/+");
        assert_eq!(ci["s3.addressing_style"], "virtual");
        assert_eq!(ci["s3.endpoint_url"], "http://x");
        assert_eq!(ci["services"], "local");
        assert_eq!(read.len(), 2);
    }
}
