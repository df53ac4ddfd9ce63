//! The requests in use and the one version of each that is spoken.
//!
//! Every version lies in what Kafka 4.0 and later accept (KIP-896) and is a flexible one (KIP-482).
//! Produce, Fetch and OffsetCommit stay below the versions that name topics by id (KIP-516):
//! looking an id up would cost one more request and gain nothing here.

use kafka_protocol::messages::{
    ApiKey, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteGroupsRequest, DeleteGroupsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, DescribeQuorumRequest, DescribeQuorumResponse, FetchRequest, FetchResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    ProduceRequest, ProduceResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

/// A request with its pinned version and the answer that belongs to it.
pub(crate) trait Call: Encodable + HeaderVersion {
    /// The request's key in the protocol.
    const KEY: ApiKey;
    /// The pinned version.
    const VERSION: i16;
    /// The request's name in the protocol, for errors.
    const NAME: &'static str;
    /// What comes back.
    type Answer: Decodable + HeaderVersion;
}

macro_rules! calls {
    ($($name:ident $version:literal $request:ty => $answer:ty;)*) => {$(
        impl Call for $request {
            const KEY: ApiKey = ApiKey::$name;
            const VERSION: i16 = $version;
            const NAME: &'static str = stringify!($name);
            type Answer = $answer;
        }
    )*};
}

calls! {
    Metadata 12 MetadataRequest => MetadataResponse;
    CreateTopics 7 CreateTopicsRequest => CreateTopicsResponse;
    DeleteTopics 6 DeleteTopicsRequest => DeleteTopicsResponse;
    Produce 9 ProduceRequest => ProduceResponse;
    Fetch 12 FetchRequest => FetchResponse;
    ListOffsets 7 ListOffsetsRequest => ListOffsetsResponse;
    FindCoordinator 4 FindCoordinatorRequest => FindCoordinatorResponse;
    JoinGroup 9 JoinGroupRequest => JoinGroupResponse;
    SyncGroup 5 SyncGroupRequest => SyncGroupResponse;
    LeaveGroup 5 LeaveGroupRequest => LeaveGroupResponse;
    OffsetCommit 8 OffsetCommitRequest => OffsetCommitResponse;
    OffsetFetch 8 OffsetFetchRequest => OffsetFetchResponse;
    DescribeQuorum 0 DescribeQuorumRequest => DescribeQuorumResponse;
    DeleteGroups 2 DeleteGroupsRequest => DeleteGroupsResponse;
    DescribeGroups 5 DescribeGroupsRequest => DescribeGroupsResponse;
    ConsumerGroupDescribe 0 ConsumerGroupDescribeRequest => ConsumerGroupDescribeResponse;
    InitProducerId 4 InitProducerIdRequest => InitProducerIdResponse;
}
