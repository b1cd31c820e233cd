//! Licences, as SPDX and as model hubs name them.

use pipe_engine::problem::{Problem, nearest};

use super::Params;

/// A licence that was found to exist, or that the user answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct License {
    /// As hubs write it: in small letters, or `other`.
    pub id: String,
    /// Its full name.
    pub name: String,
    /// Where it can be read.
    pub link: Option<String>,
}

impl License {
    /// Reads the licence that parameters name.
    pub fn read(params: &Params) -> Result<Self, Problem> {
        let link = params.license_link.clone();
        if params.license == "other" {
            let missing = || {
                Problem::param("license", "`other` names no licence").help("give `license_name`, and `license_link`")
            };
            let name = params.license_name.clone().ok_or_else(missing)?;
            return Ok(Self { id: "other".to_owned(), name, link });
        }
        if params.license_name.is_some() {
            return Err(Problem::param("license_name", format!("`{}` has a name already", params.license))
                .help("for a licence that SPDX does not list, set license = \"other\""));
        }
        let known = spdx::identifiers::LICENSES;
        match known.iter().find(|license| license.name.eq_ignore_ascii_case(&params.license)) {
            Some(license) => {
                Ok(Self { id: license.name.to_ascii_lowercase(), name: license.full_name.to_owned(), link })
            }
            None => Err(unknown(&params.license)),
        }
    }
}

fn unknown(license: &str) -> Problem {
    let names: Vec<String> = spdx::identifiers::LICENSES.iter().map(|known| known.name.to_ascii_lowercase()).collect();
    let help = match nearest(&license.to_ascii_lowercase(), names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? Else set license = \"other\" and give `license_name`"),
        None => "set license = \"other\" and give `license_name`".to_owned(),
    };
    Problem::param("license", format!("SPDX lists no licence `{license}`")).help(help)
}
