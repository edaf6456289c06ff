//! Addresses that no command connects to, whatever name led there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why an address is not one of the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPublic {
    /// Of the host itself.
    #[error("an address of the host itself")]
    Loopback,
    /// Of a private network: pods, services and nodes have such.
    #[error("a private address")]
    Private,
    /// Of one link: the metadata services of clouds have such.
    #[error("a link-local address")]
    LinkLocal,
    /// Of a provider's own service for its machines.
    #[error("an address of the cloud provider's own")]
    Metadata,
    /// A group of hosts.
    #[error("a multicast or broadcast address")]
    Multicast,
    /// An IPv4 address in the form of an IPv6 one, by which the lists for IPv4 would be passed by.
    #[error("an IPv4 address in the form of an IPv6 one")]
    Translated,
    /// Set aside, for documentation for instance.
    #[error("a reserved address")]
    Reserved,
    /// In a block that the operator's installation closes.
    #[error("an address that this installation of Podwright keeps closed")]
    Closed,
}

/// Not an address and a number of bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no block of addresses such as 10.0.0.0/8 or fd00::/8")]
pub struct InvalidCidr(String);

/// IPv4 addresses that are not for everybody: the registry of special-purpose addresses, and what clouds use of others.
const V4: [(Ipv4Addr, u8, NotPublic); 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, NotPublic::Loopback),
    (Ipv4Addr::new(127, 0, 0, 0), 8, NotPublic::Loopback),
    (Ipv4Addr::new(10, 0, 0, 0), 8, NotPublic::Private),
    (Ipv4Addr::new(172, 16, 0, 0), 12, NotPublic::Private),
    (Ipv4Addr::new(192, 168, 0, 0), 16, NotPublic::Private),
    // Shared between providers and customers; some clusters give it to pods, one cloud to its metadata service.
    (Ipv4Addr::new(100, 64, 0, 0), 10, NotPublic::Private),
    (Ipv4Addr::new(169, 254, 0, 0), 16, NotPublic::LinkLocal),
    // One cloud's metadata service lies here, another's answers on a single address of its own space.
    (Ipv4Addr::new(192, 0, 0, 0), 24, NotPublic::Metadata),
    (Ipv4Addr::new(168, 63, 129, 16), 32, NotPublic::Metadata),
    (Ipv4Addr::new(192, 0, 2, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, NotPublic::Translated),
    (Ipv4Addr::new(198, 18, 0, 0), 15, NotPublic::Private),
    (Ipv4Addr::new(192, 31, 196, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(192, 52, 193, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(192, 175, 48, 0), 24, NotPublic::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, NotPublic::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, NotPublic::Reserved),
];

/// Of IPv6 only `2000::/3` is handed out, so the rest is named here for the sentence alone.
const V6: [(Ipv6Addr, u8, NotPublic); 12] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 127, NotPublic::Loopback),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, NotPublic::Translated),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, NotPublic::Translated),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 32, NotPublic::Translated),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, NotPublic::Private),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, NotPublic::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, NotPublic::LinkLocal),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, NotPublic::Multicast),
    // Within the part that is handed out: Teredo, ORCHID and other protocols, 6to4, documentation.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, NotPublic::Translated),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, NotPublic::Translated),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, NotPublic::Reserved),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, NotPublic::Reserved),
];

/// Whether an address is one of the public internet.
///
/// # Errors
/// What it is otherwise.
pub fn public(address: IpAddr) -> Result<(), NotPublic> {
    let special = match address {
        IpAddr::V4(v4) if v4 == Ipv4Addr::BROADCAST => Some(NotPublic::Multicast),
        IpAddr::V4(v4) => within(&V4.map(|(net, bits, what)| (net.into(), bits, what)), v4.into()),
        IpAddr::V6(v6) => {
            let listed = within(&V6.map(|(net, bits, what)| (net.into(), bits, what)), v6.into());
            let handed_out = v6.segments()[0] & 0xe000 == 0x2000;
            listed.or_else(|| (!handed_out).then_some(NotPublic::Reserved))
        }
    };
    special.map_or(Ok(()), Err)
}

fn within(blocks: &[(IpAddr, u8, NotPublic)], address: IpAddr) -> Option<NotPublic> {
    let holds = |(net, prefix): (IpAddr, u8)| Cidr { address: net, prefix }.contains(address);
    blocks.iter().find(|(net, prefix, _)| holds((*net, *prefix))).map(|(_, _, what)| *what)
}

impl From<IpAddr> for Cidr {
    /// This address alone.
    fn from(address: IpAddr) -> Self {
        Self { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }
}

impl Cidr {
    /// Whether an address lies in it. Never one of the other family.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                shifted(net.to_bits().into(), 32, self.prefix)
                    == shifted(address.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                shifted(net.to_bits(), 128, self.prefix) == shifted(address.to_bits(), 128, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The leading bits of an address, as a number.
fn shifted(bits: u128, width: u32, prefix: u8) -> u128 {
    bits.checked_shr(width.saturating_sub(prefix.into())).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let invalid = || InvalidCidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        if prefix <= most { Ok(Self { address, prefix }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(address: &str) -> Result<(), NotPublic> {
        public(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_hosts_pods_clouds_and_groups_are_told_from_public_ones() {
        use NotPublic::*;
        let table = [
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("0.0.0.0", Loopback),
            ("0.1.2.3", Loopback),
            ("10.0.0.1", Private),
            ("10.96.0.1", Private),
            ("10.244.3.7", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", Private),
            ("100.100.100.200", Private),
            ("198.18.0.1", Private),
            ("198.19.255.255", Private),
            ("169.254.169.254", LinkLocal),
            ("169.254.20.10", LinkLocal),
            ("192.0.0.192", Metadata),
            ("168.63.129.16", Metadata),
            ("192.0.2.1", Reserved),
            ("198.51.100.1", Reserved),
            ("203.0.113.9", Reserved),
            ("192.88.99.1", Translated),
            ("224.0.0.1", Multicast),
            ("239.255.255.250", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Multicast),
            ("::", Loopback),
            ("::1", Loopback),
            ("::ffff:8.8.8.8", Translated),
            ("::ffff:127.0.0.1", Translated),
            ("::ffff:169.254.169.254", Translated),
            ("::8.8.8.8", Translated),
            ("64:ff9b::8.8.8.8", Translated),
            ("64:ff9b:1::10.0.0.1", Translated),
            ("2002:a00:1::", Translated),
            ("2001::1", Translated),
            ("2001:10::1", Translated),
            ("2001:db8::1", Reserved),
            ("3fff::1", Reserved),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fdff:ffff::1", Private),
            ("fec0::1", Private),
            ("fe80::1", LinkLocal),
            ("febf::1", LinkLocal),
            ("ff02::1", Multicast),
            ("100::1", Reserved),
            ("5f00::1", Reserved),
            ("4000::1", Reserved),
            ("::2:0:0:0", Reserved),
        ];
        for (address, expected) in table {
            assert_eq!(judged(address), Err(expected), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2003::1",
            "2606:4700:4700::1111",
            "2a00::1",
            "3ffe::1",
        ] {
            assert_eq!(judged(address), Ok(()), "{address}");
        }
    }

    #[test]
    fn blocks_are_read_and_hold_what_begins_like_them() {
        let block = |text: &str| text.parse::<Cidr>();
        let holds = |text: &str, address: &str| block(text).unwrap().contains(address.parse().unwrap());
        assert!(holds("52.0.0.0/8", "52.255.1.1") && !holds("52.0.0.0/8", "53.0.0.0"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("1.2.3.4/32", "1.2.3.4") && !holds("1.2.3.4/32", "1.2.3.5"));
        assert!(holds("2a00:1::/32", "2a00:1:ffff::1") && !holds("2a00:1::/32", "2a00:2::"));
        assert!(holds("::/0", "2a00::") && holds("2a00::1/128", "2a00::1"));
        for text in ["", "1.2.3.4", "1.2.3.4/33", "::/129", "1.2.3/8", "a/8", "1.2.3.4/-1", "1.2.3.4/8/8"] {
            assert_eq!(block(text), Err(InvalidCidr(text.into())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_ipv4_address_is_refused_in_every_other_form(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let [a, b, c, d] = v4.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for form in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert!(public(form.into()).is_err(), "{}", form);
            }
        }

        #[test]
        fn nothing_that_the_standard_library_knows_as_special_is_public(bits in any::<u32>()) {
            let v4 = Ipv4Addr::from(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
                || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
            prop_assert!(!special || public(v4.into()).is_err(), "{}", v4);
        }
    }
}
