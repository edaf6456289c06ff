//! What kind of work the thread is for, where that is not the change of files that the base instructions speak of.
//!
//! Tools and base instructions are the same for all kinds, so that threads of all of them share the longest
//! beginning; what differs is one block of the developer message.

/// The kind of work, with what its text needs to know.
#[derive(Clone, Debug)]
pub enum Work<'a> {
    /// Files are changed.
    Change,
    /// A question is answered.
    Ask,
    /// A change that others made is reviewed.
    Review(Compared<'a>),
}

/// The two ends of what is reviewed.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// What is reviewed, as the task names it.
    pub reference: &'a str,
    /// Its commit.
    pub commit: String,
    /// What it would be merged into, as the task names it.
    pub base: &'a str,
    /// The commit of that.
    pub base_commit: String,
    /// The last commit that both have, as far as the history was fetched.
    pub meets: Option<String>,
}

impl Work<'_> {
    /// The block that tells the model; `None` where the base instructions say it all.
    pub fn block(&self) -> Option<String> {
        let text = match self {
            Self::Change => return None,
            Self::Ask => {
                "Task mode is Ask: you are asked a question, not for a change. Your final message is the \
                 answer; name the places in the code that show it."
                    .to_owned()
            }
            Self::Review(compared) => compared.text(),
        };
        Some(format!(
            "<task_mode>\n{text}\n\
             Leave the repository as it is: do not edit, add or delete its files, whatever tools you have. There is no \
             patch in this mode; changes of files are dropped. You may read everything, run checks and tests, and \
             write scratch files beneath `/tmp`. Where other instructions speak of changes to make and of the patch, \
             they do not hold here.\n\
             </task_mode>"
        ))
    }
}

impl Compared<'_> {
    fn text(&self) -> String {
        let Self { reference, commit, base, base_commit, meets } = self;
        let range = match meets {
            Some(meets) => format!(
                "What is new there is everything since their last common commit `{meets}`: look at it with \
                 `git diff {meets} {commit}` and `git log {meets}..{commit}`."
            ),
            None => format!(
                "Their last common commit is older than the history that was fetched, so compare the two states with \
                 `git diff {base_commit} {commit}`, and mind that what differs may also be newer on `{base}`."
            ),
        };
        format!(
            "Task mode is Review: you review a change that somebody else made, before it is merged. The change is what \
             `{reference}` (checked out, commit `{commit}`) adds to `{base}` (commit `{base_commit}`). {range}\n\
             Report what its author would mend if he knew of it: defects that the change itself brings in, each real, \
             discrete and worth acting on, with the input or the situation in which it shows. Leave out what was there \
             before, matters of taste, and what you only suppose: read the code around a place, and run a check where \
             one can tell, before you report it. When there is nothing of the kind, report nothing. What AGENTS.md or \
             the task ask of reviews goes before this."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(meets: Option<&str>) -> Compared<'static> {
        Compared {
            reference: "feature",
            commit: "c1".into(),
            base: "main",
            base_commit: "b1".into(),
            meets: meets.map(str::to_owned),
        }
    }

    #[test]
    fn only_modes_that_leave_the_repository_alone_say_so() {
        assert_eq!(Work::Change.block(), None);
        for work in [Work::Ask, Work::Review(compared(Some("m1")))] {
            let block = work.block().unwrap();
            assert!(block.starts_with("<task_mode>\nTask mode is ") && block.ends_with("\n</task_mode>"));
            assert!(block.contains("Leave the repository as it is"), "{block}");
        }
    }

    #[test]
    fn a_review_names_both_ends_and_how_to_see_what_is_new() {
        let block = Work::Review(compared(Some("m1"))).block().unwrap();
        assert!(
            block.contains("`feature` (checked out, commit `c1`) adds to `main` (commit `b1`)"),
            "{block}"
        );
        assert!(block.contains("git diff m1 c1") && block.contains("git log m1..c1"), "{block}");
        let apart = Work::Review(compared(None)).block().unwrap();
        assert!(apart.contains("git diff b1 c1") && !apart.contains("git log"), "{apart}");
    }
}
