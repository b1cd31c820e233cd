//! Which metrics a list of names stands for.

use pipe_engine::problem::{Problem, nearest};
use pipe_metrics::{METRICS, Metric};

/// The metrics named, each once, in the order of the table of metrics. A name stands for the metric of that name and for all
/// that begin with it and `_`.
pub(super) fn select(names: &[String]) -> Result<Vec<&'static Metric>, Problem> {
    if names.is_empty() {
        return Err(Problem::param("metrics", "no metric is named"));
    }
    if let Some(unknown) = names.iter().find(|name| !METRICS.iter().any(|metric| stands_for(name, metric))) {
        let known = METRICS.iter().map(|metric| metric.name);
        let near = nearest(unknown, known.clone()).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let all = known.collect::<Vec<_>>().join(", ");
        return Err(
            Problem::param("metrics", format!("there is no metric `{unknown}`")).help(format!("{near}there are {all}"))
        );
    }
    Ok(METRICS.iter().filter(|metric| names.iter().any(|name| stands_for(name, metric))).collect())
}

fn stands_for(name: &str, metric: &Metric) -> bool {
    metric.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(asked: &[&str]) -> Result<Vec<&'static str>, Problem> {
        let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
        Ok(select(&asked)?.iter().map(|metric| metric.name).collect())
    }

    #[test]
    fn a_name_stands_for_its_family() {
        assert_eq!(
            names(&["rouge_l", "bleu", "bleu_1"]).unwrap(),
            ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l_coco"]
        );
        assert_eq!(names(&["cider_d"]).unwrap(), ["cider_d"]);
        assert_eq!(names(&["pairs_kept"]).unwrap(), ["pairs_kept"]);
        assert!(names(&["adjectives"]).unwrap().contains(&"adjectives_per_100_words"));
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let problem = names(&["cidre_d"]).unwrap_err();
        assert_eq!(problem.message, "there is no metric `cidre_d`");
        assert!(problem.help.unwrap().starts_with("did you mean `cider_d`?"));
        assert!(names(&["ble"]).is_err(), "part of a word is no name");
        assert!(names(&[]).is_err());
    }
}
