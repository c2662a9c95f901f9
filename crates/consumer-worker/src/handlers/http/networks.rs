//! The networks whose addresses may be connected to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// What IANA's registry of special addresses does not call global, and what clouds keep for themselves.
const SPECIAL_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    // Azure's own services.
    v4(168, 63, 129, 16, 32),
];

/// All that is global lies in this network, but not all in it is.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);
const SPECIAL_V6: &[Ipv6Net] = &[
    // Protocols of the IETF, Teredo among them: a tunnel to any address.
    v6(0x2001, 0, 23),
    v6(0x2001, 0xdb8, 32),
    // 6to4: a tunnel as well.
    v6(0x2002, 0, 16),
    v6(0x3fff, 0, 20),
];
/// An address of version 4 for a network that has version 6 alone.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

/// Which addresses may be connected to.
#[derive(Debug, Clone)]
pub(super) enum Networks {
    /// Any: who configured the URL knows.
    All,
    /// Those of the public internet, and of these networks.
    PublicAnd(Vec<IpNet>),
}

impl Networks {
    pub(super) fn allow(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::PublicAnd(others) => {
                // As it is dialled: version 4 in the clothes of version 6 is version 4.
                let address = address.to_canonical();
                is_public(address) || others.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed_and_what_is_named() {
        let public = Networks::PublicAnd(Vec::new());
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"]
        {
            assert!(public.allow(address.parse().unwrap()), "{address}");
        }
        let private = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
        ];
        for address in private {
            assert!(!public.allow(address.parse().unwrap()), "{address}");
            assert!(Networks::All.allow(address.parse().unwrap()), "{address}");
        }
        let named = Networks::PublicAnd(vec!["10.1.0.0/16".parse().unwrap(), "127.0.0.1/32".parse().unwrap()]);
        for (address, allowed) in
            [("10.1.2.3", true), ("10.2.0.1", false), ("::ffff:10.1.2.3", true), ("127.0.0.1", true), ("1.1.1.1", true)]
        {
            assert_eq!(named.allow(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
