//! The grammar of `query`.

use clap::Args;

/// The examples of `query --help`.
pub(super) const EXAMPLES: &str = "\
EXPR compares a FIELD with a JSON value or 'text': = != < <= > >= in contains prefix matches;
or exists FIELD; joined by and, or, not and parentheses. A FIELD is a.b[0], or one of
@value @key @type @version @time @author.

Examples:
  kdelta query user/ --where \"age >= 18 and city = 'Oslo'\" --sort age:desc --limit 10
  kdelta query order/ --sum price --group-by city --sort 'sum(price):desc'
  kdelta query stock/ --where '@value < 5' --at tag:inventory";

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Asks keys that begin so
    pub(crate) prefix: Option<String>,
    /// What must hold; given again, all must hold
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) tests: Vec<String>,
    /// Sorts by this field, or by a column of the groups; given again, decides between equals
    #[arg(long, value_name = "FIELD[:desc]")]
    pub(crate) sort: Vec<String>,
    /// Answers at most N; 0 means all, as JSON lines with --json [default: all, 1000 with --json]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Goes on after a page that answered this as next
    #[arg(long, value_name = "CURSOR")]
    pub(crate) after: Option<String>,
    /// Shows these fields in place of the value
    #[arg(long, value_name = "FIELD")]
    pub(crate) select: Vec<String>,
    /// Counts
    #[arg(long)]
    pub(crate) count: bool,
    /// Sums up the numbers of a field
    #[arg(long, value_name = "FIELD")]
    pub(crate) sum: Vec<String>,
    /// Averages the numbers of a field
    #[arg(long, value_name = "FIELD")]
    pub(crate) avg: Vec<String>,
    /// Finds the least value of a field
    #[arg(long, value_name = "FIELD")]
    pub(crate) min: Vec<String>,
    /// Finds the greatest value of a field
    #[arg(long, value_name = "FIELD")]
    pub(crate) max: Vec<String>,
    /// Counts, sums and finds for each value of this field
    #[arg(long, value_name = "FIELD")]
    pub(crate) group_by: Vec<String>,
    /// Asks the keys of an earlier point
    #[arg(long, value_name = "POINT", allow_hyphen_values = true)]
    pub(crate) at: Option<String>,
    /// Asks the intact keys of a damaged space
    #[arg(long)]
    pub(crate) degraded: bool,
}
