//! Circles in a graph of names.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Imports by file (or room): what each imports, and where it says so.
pub(crate) type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Returns a description of each circle: of each group of names that reach one
/// another the members, then a shortest circle through each of them.
pub(crate) fn circles(imports: &Imports) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|start| (start.as_str(), reached_from(imports, start))).collect();
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for (start, reached) in &reach {
        if !reached.contains(start) || seen.contains(start) {
            continue;
        }
        let is_member = |name: &&&str| reach.get(**name).is_some_and(|back| back.contains(start));
        let members: Vec<&str> = reached.iter().filter(is_member).copied().collect();
        seen.extend(members.iter().copied());
        findings.push(describe(imports, &members));
    }
    findings
}

fn reached_from<'a>(imports: &'a Imports, start: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut pending = vec![start];
    while let Some(name) = pending.pop() {
        let next = imports.get(name).into_iter().flat_map(BTreeMap::keys);
        pending.extend(next.map(String::as_str).filter(|next| reached.insert(*next)));
    }
    reached
}

fn describe(imports: &Imports, members: &[&str]) -> String {
    let mut circles: Vec<Vec<&str>> = members.iter().map(|member| shortest(imports, member)).collect();
    for circle in &mut circles {
        let least = circle.iter().enumerate().min_by_key(|(_, name)| **name).map_or(0, |(at, _)| at);
        circle.rotate_left(least);
    }
    circles.sort_by_key(|circle| (circle.len(), circle.clone()));
    circles.dedup();
    let mut text = format!("circle of {}: {}", members.len(), members.join(", "));
    for circle in circles {
        text += &format!("\n  {} → {}", circle.join(" → "), circle[0]);
        for (at, from) in circle.iter().enumerate() {
            let to = circle[(at + 1) % circle.len()];
            text += &format!("\n    {}", imports[*from][to]);
        }
    }
    text
}

/// Returns a shortest circle through a name, the name first.
fn shortest<'a>(imports: &'a Imports, start: &'a str) -> Vec<&'a str> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(name) = queue.pop_front() {
        for next in imports.get(name).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next.as_str()) {
                before.insert(next, name);
                queue.push_back(next);
            }
        }
    }
    let mut circle = vec![start];
    let mut name = before[start];
    while name != start {
        circle.push(name);
        name = before[name];
    }
    circle[1..].reverse();
    circle
}
