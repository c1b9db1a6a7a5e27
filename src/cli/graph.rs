//! Draws who built on what, one row an event, newest first.
//!
//! Each column is a lane that waits for one event. An event takes the leftmost lane that waits
//! for it, the others that do join in there, and its parents wait in its place.

/// One event to be drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    /// Its name.
    pub(crate) id: &'a str,
    /// What it built on.
    pub(crate) parents: &'a [String],
}

/// Returns, for each point in order, the lines that lead to it; the last one carries its mark.
pub(crate) fn draw(points: &[Point<'_>]) -> Vec<Vec<String>> {
    let known: std::collections::BTreeSet<&str> = points.iter().map(|point| point.id).collect();
    let mut lanes: Vec<&str> = Vec::new();
    let mut pending: Vec<String> = Vec::new();
    let mut drawn = Vec::with_capacity(points.len());
    for point in points {
        let mut lines = std::mem::take(&mut pending);
        let waiting = |lanes: &[&str]| lanes.iter().rposition(|id| *id == point.id);
        let lane = lanes.iter().position(|id| *id == point.id).unwrap_or_else(|| {
            lanes.push(point.id);
            lanes.len() - 1
        });
        while let Some(other) = waiting(&lanes).filter(|other| *other != lane) {
            lines.push(bend(lanes.len(), lane, other, '/'));
            lanes.remove(other);
        }
        lines.push(row(lanes.len(), lane));
        drawn.push(lines);
        let mut parents = point.parents.iter().map(String::as_str).filter(|id| known.contains(id));
        match parents.next() {
            Some(first) => {
                if let Some(place) = lanes.get_mut(lane) {
                    *place = first;
                }
                for parent in parents.filter(|id| *id != first) {
                    lanes.push(parent);
                    pending.push(bend(lanes.len(), lane, lanes.len() - 1, '\\'));
                }
            }
            None => {
                lanes.remove(lane);
            }
        }
    }
    drawn
}

fn row(lanes: usize, marked: usize) -> String {
    let marks = (0..lanes).map(|lane| if lane == marked { '*' } else { '|' });
    marks.flat_map(|mark| [mark, ' ']).collect::<String>().trim_end().to_owned()
}

/// All lanes, and a line between lane `from` and the lane `to` on its right.
fn bend(lanes: usize, from: usize, to: usize, slope: char) -> String {
    let mut line: Vec<char> = (0..lanes).flat_map(|_| ['|', ' ']).collect();
    for (at, place) in line.iter_mut().enumerate() {
        if at == 2 * to {
            *place = ' ';
        } else if at + 1 == 2 * to {
            *place = slope;
        } else if at > 2 * from && at < 2 * to && at % 2 == 1 {
            *place = '_';
        }
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawing(points: &[(&str, &[&str])]) -> String {
        let parents: Vec<Vec<String>> = points
            .iter()
            .map(|(_, parents)| parents.iter().map(|id| (*id).to_owned()).collect())
            .collect();
        let points: Vec<Point<'_>> =
            points.iter().zip(&parents).map(|((id, _), parents)| Point { id, parents }).collect();
        let mut text = String::new();
        for (lines, point) in draw(&points).iter().zip(&points) {
            let (mark, before) = lines.split_last().unwrap();
            before.iter().for_each(|line| text.extend([line, "\n"]));
            text.extend([mark, " ", point.id, "\n"]);
        }
        text
    }

    #[test]
    fn a_line_is_a_line() {
        insta::assert_snapshot!(drawing(&[("c", &["b"]), ("b", &["a"]), ("a", &[])]), @"
        * c
        * b
        * a
        ");
    }

    #[test]
    fn a_merge_has_two_lanes_that_meet() {
        let points: &[(&str, &[&str])] =
            &[("m", &["x", "y"]), ("y", &["a"]), ("x", &["a"]), ("a", &[])];
        insta::assert_snapshot!(drawing(points), @r#"
        * m
        |\
        | * y
        * | x
        |/
        * a
        "#);
    }

    #[test]
    fn a_parent_that_is_not_listed_ends_its_lane() {
        insta::assert_snapshot!(drawing(&[("c", &["gone"]), ("b", &[])]), @"
        * c
        * b
        ");
    }

    #[test]
    fn many_heads_meet_in_one_root() {
        let points: &[(&str, &[&str])] = &[("p", &["a"]), ("q", &["a"]), ("r", &["a"]), ("a", &[])];
        insta::assert_snapshot!(drawing(points), @r#"
        * p
        | * q
        | | * r
        |_|/
        |/
        * a
        "#);
    }
}
