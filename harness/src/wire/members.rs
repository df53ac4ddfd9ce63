//! Who is in a consumer group, and which partitions each member has, asked of the group's coordinator.
//!
//! Both group protocols are understood: the classic one, whose members tell one another what they have, and the newer
//! one (KIP-848), in which the coordinator says it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddrV4;
use std::ops::RangeBounds;
use std::time::Duration;

use bytes::Buf as _;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DescribeGroupsRequest, GroupId,
};
use kafka_protocol::protocol::{Decodable as _, StrBytes};
use tokio::time::Instant;

use super::cluster::first;
use super::connection::Peer;
use super::error::{DecodeError, WireError};
use super::group::{Coordinates, coordinator};
use super::until::Until;

/// How often a coordinator is asked: a member that joins takes some hundred milliseconds, and asking is work for it.
const EVERY: Duration = Duration::from_millis(50);
/// What the coordinator calls a group in which nobody joins or leaves at the moment.
const STABLE: &str = "Stable";

/// How many partitions of each topic every member has.
type Shares = Vec<BTreeMap<String, usize>>;

/// Waits until so many members share all partitions of these topics.
///
/// # Errors
/// It was otherwise until the deadline; the error says how.
pub async fn group_shared(
    brokers: &[SocketAddrV4],
    group: &str,
    topics: &BTreeMap<String, u16>,
    members: &(impl RangeBounds<usize> + Debug),
    deadline: Instant,
) -> Result<(), WireError> {
    first(brokers)?;
    let awaited = format!("a group {group} of {members:?} members that share its topics");
    let mut until = Until::new(&awaited, EVERY, deadline);
    // Another broker is asked each time: one that is gone must not be asked for ever.
    for asked in brokers.iter().cycle() {
        if until.attempt(shared(*asked, group, topics, members)).await?.is_some() {
            break;
        }
    }
    Ok(())
}

async fn shared(
    asked: SocketAddrV4,
    group: &str,
    topics: &BTreeMap<String, u16>,
    members: &impl RangeBounds<usize>,
) -> Result<(), WireError> {
    let mut coordinator = coordinator(&mut Peer::new(asked), Coordinates::Group, group).await?;
    let (state, shares) = described(&mut coordinator, group).await?;
    let assigned = |topic: &String| shares.iter().filter_map(|share| share.get(topic)).sum::<usize>();
    let unassigned = topics.iter().find(|(topic, partitions)| assigned(topic) != usize::from(**partitions));
    let why = match unassigned {
        _ if state != STABLE => format!("in the state {state}"),
        _ if !members.contains(&shares.len()) => format!("with {} members", shares.len()),
        Some((topic, partitions)) => format!("with {} of {partitions} partitions of {topic}", assigned(topic)),
        None => return Ok(()),
    };
    Err(WireError::GroupNotShared { broker: coordinator.address(), group: group.to_owned(), why })
}

/// The state of a group, and what its members have. A group of the newer protocol is none to the classic question.
async fn described(coordinator: &mut Peer, group: &str) -> Result<(String, Shares), WireError> {
    if let Some(found) = of_classic_protocol(coordinator, group).await? {
        return Ok(found);
    }
    let found = of_newer_protocol(coordinator, group).await?;
    Ok(found.unwrap_or_else(|| ("Empty".to_owned(), Vec::new())))
}

async fn of_classic_protocol(coordinator: &mut Peer, group: &str) -> Result<Option<(String, Shares)>, WireError> {
    let answer = coordinator.ask(&DescribeGroupsRequest::default().with_groups(vec![id_of(group)])).await?;
    let found = coordinator.entry::<DescribeGroupsRequest, _>(answer.groups.first(), group)?;
    if found.error_code == ResponseError::GroupIdNotFound.code() || &*found.group_state == "Dead" {
        return Ok(None);
    }
    coordinator.check::<DescribeGroupsRequest>(found.error_code, group)?;
    let shares = found.members.iter().map(|member| {
        // The consumer protocol's messages carry their version in front of them; one that has nothing yet has no
        // message.
        let mut bytes = member.member_assignment.clone();
        if bytes.remaining() < size_of::<i16>() {
            return Ok(BTreeMap::new());
        }
        let version = bytes.get_i16();
        let assignment = ConsumerProtocolAssignment::decode(&mut bytes, version).map_err(|source| {
            let source = DecodeError::Malformed(source.into());
            WireError::Unreadable { broker: coordinator.address(), request: "DescribeGroups", source }
        })?;
        let topics = assignment.assigned_partitions.iter();
        Ok(topics.map(|topic| (topic.topic.to_string(), topic.partitions.len())).collect())
    });
    Ok(Some((found.group_state.to_string(), shares.collect::<Result<_, WireError>>()?)))
}

async fn of_newer_protocol(coordinator: &mut Peer, group: &str) -> Result<Option<(String, Shares)>, WireError> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id_of(group)]);
    let answer = coordinator.ask(&request).await?;
    let found = coordinator.entry::<ConsumerGroupDescribeRequest, _>(answer.groups.first(), group)?;
    if found.error_code == ResponseError::GroupIdNotFound.code() {
        return Ok(None);
    }
    coordinator.check::<ConsumerGroupDescribeRequest>(found.error_code, group)?;
    let shares = found.members.iter().map(|member| {
        let topics = member.assignment.topic_partitions.iter();
        topics.map(|topic| (topic.topic_name.to_string(), topic.partitions.len())).collect()
    });
    Ok(Some((found.group_state.to_string(), shares.collect())))
}

fn id_of(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}
