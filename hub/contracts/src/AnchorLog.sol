// SPDX-License-Identifier: MIT
pragma solidity 0.8.30;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";

/// @title AnchorLog: when a hub's transparency log had which root
/// @notice Holds the newest anchored checkpoint of one log and emits every one as an event. It knows nothing of what the log
/// holds: whether a root is the right one is checked by who reads the log. What it gives is an order and a time that the hub
/// cannot change afterwards.
/// @dev The anchorer may append and nothing else: not rewrite, not pause, not hand its role on. The admin, whose key is kept
/// cold, may replace the anchorer and nothing else. There is no owner of the data, no upgrade and no immutable: every AnchorLog
/// of one compiler has the same runtime code, and a verifier compares its hash with a constant.
contract AnchorLog is AccessControl {
    bytes32 public constant ANCHORER_ROLE = keccak256("ANCHORER_ROLE");

    /// @dev One slot for the three numbers, one for the root: an anchor writes two slots.
    struct Head {
        uint64 seq;
        uint64 hour;
        uint64 size;
        bytes32 root;
    }

    Head private _head;

    /// @param seq counts anchors from 1, without a hole
    /// @param hour hours since 1970 UTC, by the hub's clock; the time that counts is the block's
    /// @param prevRoot root of the anchor before, zero for the first
    /// @param root RFC 6962 root of the log's first `size` entries
    event HeadAnchored(uint64 indexed seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size);

    error BadSeq(uint64 expected, uint64 given);
    error BadPrevRoot(bytes32 expected, bytes32 given);
    error BadSize(uint64 least, uint64 given);

    constructor(address admin, address anchorer) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(ANCHORER_ROLE, anchorer);
    }

    /// @notice Appends a checkpoint. Sending one twice fails with BadSeq, so a transaction that is repeated doubles nothing.
    function anchorHead(uint64 seq, uint64 hour, bytes32 prevRoot, bytes32 root, uint64 size)
        external
        onlyRole(ANCHORER_ROLE)
    {
        Head memory last = _head;
        unchecked {
            // 2^64 anchors cannot be made.
            if (seq != last.seq + 1) revert BadSeq(last.seq + 1, seq);
        }
        if (prevRoot != last.root) revert BadPrevRoot(last.root, prevRoot);
        if (size < last.size) revert BadSize(last.size, size);
        // Two roots for one size would be two logs. A first log of no entries has size 0 and the root of nothing.
        if (size == last.size && root != last.root && last.seq != 0) revert BadSize(last.size + 1, size);
        _head = Head(seq, hour, size, root);
        emit HeadAnchored(seq, hour, prevRoot, root, size);
    }

    /// @notice The newest anchored checkpoint; zeros before the first.
    function head() external view returns (uint64 seq, uint64 hour, uint64 size, bytes32 root) {
        Head memory h = _head;
        return (h.seq, h.hour, h.size, h.root);
    }
}
