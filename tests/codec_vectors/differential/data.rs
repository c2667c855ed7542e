//! Data streams and datagrams. Ranges of fetch streams are left out: the peer writes them with deltas
//! and a payload length, most others and we without (see `Record::parse`).

use aip_codec::{
    Version,
    moqt::{
        datagram::ObjectDatagram, id::RequestId, parameter::GroupOrder, stream::fetch::FetchHeader,
    },
};
use aip_tests::fuzz::{Fetch, FetchRecord, read_fetch, read_subgroup, write_fetch};
use bytes::{Bytes, BytesMut};
use proptest::{
    prelude::{Just, Strategy, prop_assert_eq, prop_oneof},
    proptest,
    sample::select,
};

use super::{
    super::{
        data::{fetch_records, object_datagram, subgroup_header, subgroup_objects, write_subgroup},
        strategy,
    },
    DATAGRAM, FETCH, SUBGROUP, VERSIONS, agree, mutation,
    peer::{self, FetchedObject, ReadDatagram, ReadFetch, ReadSubgroup},
};

/// Numbers beyond these the peer cannot hold in a subgroup.
const PEER_OBJECT_MAX: u64 = (1 << 62) - 1;

fn subgroup() -> impl Strategy<Value = (Bytes, Vec<(u64, Vec<u8>)>)> {
    let stream = subgroup_header().prop_flat_map(|header| {
        subgroup_objects(header.properties).prop_map(move |mut objects| {
            objects.retain(|(object, _)| object.object.0 <= PEER_OBJECT_MAX);
            let contents =
                objects.iter().map(|(object, payload)| (object.object.0, payload.clone()));
            (write_subgroup(header, &objects), contents.collect())
        })
    });
    stream.boxed()
}

fn fetch() -> impl Strategy<Value = (Version, bool, u64, Bytes, Vec<FetchRecord>)> {
    let choice = (select(&VERSIONS[..]), prop_oneof![Just(true), Just(false)], strategy::number());
    choice.prop_flat_map(|(version, is_ascending, request_id)| {
        let order = order(is_ascending);
        fetch_records(order, version).prop_map(move |mut records| {
            records.retain(|record| matches!(record, FetchRecord::Object(..)));
            let header = FetchHeader { request_id: RequestId(request_id) };
            let bytes = write_fetch(version, order, header, &records).unwrap();
            (version, is_ascending, request_id, bytes, records)
        })
    })
}

const fn order(is_ascending: bool) -> GroupOrder {
    if is_ascending { GroupOrder::Ascending } else { GroupOrder::Descending }
}

proptest! {
    #[test]
    fn subgroups_read_the_same((bytes, objects) in subgroup()) {
        for version in VERSIONS {
            let read = peer::subgroup(version, &bytes);
            let expected = ReadSubgroup { objects: objects.clone(), again: bytes.to_vec() };
            prop_assert_eq!(read.map_err(|refusal| refusal.0), Ok(expected));
        }
    }

    #[test]
    fn both_refuse_the_same_subgroups((bytes, _) in subgroup(), mutations in mutation::several()) {
        let mut bytes = bytes.to_vec();
        mutation::apply(&mut bytes, &mutations);
        let ours = read_subgroup(&[bytes.clone().into()]);
        for version in VERSIONS {
            agree(&SUBGROUP, ours.end, peer::subgroup(version, &bytes).map(|_| ()), &bytes)?;
        }
    }

    #[test]
    fn datagrams_read_the_same(datagram in object_datagram()) {
        let mut bytes = BytesMut::new();
        datagram.encode(&mut bytes).unwrap();
        for version in VERSIONS {
            let ReadDatagram { object, again } = peer::datagram(version, &bytes).unwrap();
            prop_assert_eq!((object, &again[..]), (datagram.object.0, &bytes[..]));
        }
    }

    #[test]
    fn both_refuse_the_same_datagrams(
        datagram in object_datagram(),
        mutations in mutation::several(),
    ) {
        let mut bytes = BytesMut::new();
        datagram.encode(&mut bytes).unwrap();
        let mut bytes = bytes.to_vec();
        mutation::apply(&mut bytes, &mutations);
        let ours = ObjectDatagram::decode(bytes.clone().into());
        for version in VERSIONS {
            agree(&DATAGRAM, ours.clone(), peer::datagram(version, &bytes).map(|_| ()), &bytes)?;
        }
    }

    #[test]
    fn fetches_read_the_same((version, is_ascending, request_id, bytes, records) in fetch()) {
        let objects = records
            .into_iter()
            .filter_map(|record| match record {
                FetchRecord::Range(..) => None,
                FetchRecord::Object(object, payload) => Some(FetchedObject {
                    group: object.location.group.0,
                    subgroup: object.subgroup.map(|subgroup| subgroup.0),
                    object: object.location.object.0,
                    priority: Some(object.priority),
                    payload,
                }),
            })
            .collect();
        let read = peer::fetch(version, is_ascending, &bytes);
        prop_assert_eq!(read.map_err(|refusal| refusal.0), Ok(ReadFetch { request_id, objects }));
    }

    #[test]
    fn both_refuse_the_same_fetches(
        (version, is_ascending, _, bytes, _) in fetch(),
        mutations in mutation::several(),
    ) {
        let mut bytes = bytes.to_vec();
        mutation::apply(&mut bytes, &mutations);
        let Fetch { records, end, .. } =
            read_fetch(version, order(is_ascending), &[bytes.clone().into()]);
        let is_compared = records.iter().all(|record| matches!(record, FetchRecord::Object(..)));
        if is_compared {
            agree(&FETCH, end, peer::fetch(version, is_ascending, &bytes).map(|_| ()), &bytes)?;
        }
    }
}
