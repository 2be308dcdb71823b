#pragma once

#include <cstdint>

#include "brick/base/id.h"

// The structures that cross the wire and, where FORMAT.md says so, lie on disk. Little-endian (the build
// refuses another machine), naturally aligned, without implicit padding; reserved bytes are zero when sent
// and refused when not. brick/WIRE.md describes every byte.
namespace voldfs::wire {

inline constexpr uint32_t kRequestMagic = 0x51444c56;  // "VLDQ"
inline constexpr uint32_t kReplyMagic = 0x52444c56;    // "VLDR"
inline constexpr uint16_t kVersion = 1;

// Limits. A frame beyond one of them closes the connection that sent it.
inline constexpr uint32_t kNameMax = 255;
inline constexpr uint32_t kTextMax = 4096;             // name2: a symlink target, an xattr's name
inline constexpr uint32_t kBodyMax = 1024;
inline constexpr uint32_t kDataMax = 1u << 20;         // payload of one request or reply
inline constexpr uint32_t kSlotsMax = 64;              // of a session
inline constexpr uint32_t kOrdinalMax = 1023;          // bricks of a volume; 0 is no brick

enum class ObjectType : uint8_t {  // the values of DT_*
  kNone = 0, kFifo = 1, kCharDevice = 2, kDirectory = 4, kBlockDevice = 6, kFile = 8, kSymlink = 10, kSocket = 12,
};

struct RequestHeader {
  uint32_t magic;         // kRequestMagic
  uint16_t version;       // kVersion; the handshake negotiates it
  uint16_t op;            // enum Op
  uint16_t body_size;     // bytes of the operation's structure, exactly as WIRE.md says
  uint16_t name_size;     // bytes of the first text, no NUL
  uint16_t name2_size;    // bytes of the second text, no NUL
  uint16_t flags;         // kFlag*
  uint32_t data_size;     // bytes of the payload
  uint16_t slot;          // of the session, below the number that the handshake granted
  uint16_t cpu;           // 1 + the CPU that the sender runs on, for a brick on the same host; 0: not told
  uint64_t session;       // 0 before the handshake has ended
  uint64_t sequence;      // of the slot: one more than the slot's last request
  uint32_t uid, gid;      // the caller's, for the operations that create, write or check quota
  uint32_t pid;           // the caller's, for messages and F_GETLK
  uint32_t umask;         // the caller's, 07777 at most
  uint64_t map_version;   // of the volume map that the sender has
  uint64_t reserved2;     // 0
};                        // then body, name, name2, data, in this order, without gaps
static_assert(sizeof(RequestHeader) == 72);

inline constexpr uint16_t kFlagResend = 1;   // sent before, over a connection that is lost
inline constexpr uint16_t kFlagReclaim = 2;  // restores state (an open, a lock) that an earlier life of the brick knew
inline constexpr uint16_t kFlagNoCreds = 4;  // uid/gid are not a caller's: written back from a cache
inline constexpr uint16_t kFlagTakesDescriptor = 8;  // of the opened file; with kFlagReclaim: has it already

struct ReplyHeader {
  uint32_t magic;         // kReplyMagic
  uint16_t version;
  uint16_t op;            // of the request; or a kNotify* of its own on a control connection
  uint16_t body_size;
  uint16_t name_size;
  uint16_t name2_size;
  uint16_t flags;         // kFlagReplayed: the slot's remembered answer; kFlagDescriptor: a descriptor comes with it; kFlagUnclean
  uint32_t data_size;
  uint32_t status;        // 0, errno, or enum Status
  uint64_t sequence;      // of the request
  uint64_t map_version;   // of the brick's map: a client with an older one fetches it
  uint64_t object_sequence;  // what the reply says is no older than this; orders grants and recalls; 0: not cacheable
  uint64_t verifier;      // changes when unsynced writes may have been lost (host reboot, remount)
  uint32_t grant_ms;      // how long what the reply tells may be cached; 0: no grant
  uint32_t reserved;      // 0
};
static_assert(sizeof(ReplyHeader) == 64);
inline constexpr uint16_t kFlagReplayed = 1;
inline constexpr uint16_t kFlagDirectories = 2;  // the payload is DirAfter[]: the directories that the request has changed
inline constexpr uint16_t kFlagDescriptor = 4;
inline constexpr uint16_t kFlagUnclean = 8;  // names that this brick does not have may have been lost: look everywhere

// The kernel's file handle (name_to_handle_at) of an object, given out by the brick and sent back as a
// hint. The MAC is over type, bytes and the object's id with a key that only the brick has.
struct Handle {
  uint8_t size;           // of bytes in use; 0: no handle
  uint8_t reserved[3];
  int32_t type;           // of struct file_handle
  uint8_t bytes[32];
  uint64_t mac;
};
static_assert(sizeof(Handle) == 48);

// An object that is no directory; or any object, where the operation says so.
struct ObjectRef {
  Id id;
  Handle handle;          // size 0: by id alone (directories, open-unlinked files)
};
static_assert(sizeof(ObjectRef) == 64);

struct Attr {
  uint64_t size, blocks;  // bytes; units of 512 bytes
  int64_t atime, mtime, ctime, btime;              // seconds since 1970
  uint32_t atime_ns, mtime_ns, ctime_ns, btime_ns;
  uint32_t mode, nlink, uid, gid;
  uint64_t rdev;          // as in statx: major << 32 | minor
  uint32_t blksize;
  uint32_t flags;         // kAttr*
};
static_assert(sizeof(Attr) == 96);
// The file changes without requests, through a descriptor that was handed out: no grant covers these attributes.
inline constexpr uint32_t kAttrPinned = 1;
// The object, no directory, has no extended attributes but the volume's own. Not set: it may have some, or nobody has looked.
inline constexpr uint32_t kAttrNoXattrs = 2;

// The ordinals of the bricks that a directory is materialized on.
struct BrickSet {
  uint8_t bits[128];      // ordinal n is bit n % 8 of byte n / 8

  bool has(uint32_t ordinal) const { return ordinal <= kOrdinalMax && (bits[ordinal / 8] >> (ordinal % 8) & 1); }
  void add(uint32_t ordinal) { bits[ordinal / 8] = static_cast<uint8_t>(bits[ordinal / 8] | 1u << (ordinal % 8)); }
  void remove(uint32_t ordinal) { bits[ordinal / 8] = static_cast<uint8_t>(bits[ordinal / 8] & ~(1u << (ordinal % 8))); }
};
static_assert(sizeof(BrickSet) == 128);

// What a brick is for a directory; bits of DirRecord::role.
inline constexpr uint8_t kRoleHome = 1;      // the authority for the record
inline constexpr uint8_t kRoleBackup = 2;    // holds a copy of the record, for when home is down
inline constexpr uint8_t kRoleMember = 4;    // is in the set: may hold names of the directory
inline constexpr uint8_t kRoleSkeleton = 8;  // is here only because something below it is; none of the others
inline constexpr uint8_t kRoleOffHash = 16;  // home, and its name is a stub on another brick; the brick's own note
inline constexpr uint8_t kRoleFound = 32;    // adopted by this brick, which does not know what others have of it (FORMAT.md)

enum class DirState : uint8_t { kLive = 0, kRemoving = 1, kMoving = 2 };

// A directory's record, DESIGN "Directories". On disk in a shorter form (FORMAT.md).
struct DirRecord {
  Id id;
  Id parent;              // the root's is the root
  uint32_t epoch;         // layout epoch of its names; 0: adopted, names may be anywhere
  uint16_t home;          // ordinal
  uint16_t backup;        // ordinal; 0: none
  uint64_t change;        // counter of changes of the record; home's is the newest
  uint32_t home_generation;
  uint8_t role;           // what the sender is for it
  DirState state;
  uint16_t reserved;
  uint32_t subdirectories;  // that this brick is the authority of
  uint32_t times_change;  // `change` when a user last set the times; whose is lower has missed that. 0: never
  Id txn;                 // of the removal, rename or move under way; none otherwise
  BrickSet set;
};
static_assert(sizeof(DirRecord) == 208);

// A directory's attributes on the answering brick right after a change of its names or of itself. As fresh as the reply's
// object_sequence. attr.mode 0: they are not known, and what was told before is void.
struct DirAfter {
  Id id;
  Attr attr;
  uint32_t subdirectories;  // as in DirRecord
  uint32_t times_change;    // as in DirRecord
};
static_assert(sizeof(DirAfter) == 120);

// What a stub says (`trusted.voldfs.link`).
enum class LinkState : uint8_t { kCommitted = 1, kPending = 2 };  // pending: cleanup of txn is not finished
struct Link {
  Id brick;               // where the object is
  Id object;
  Id txn;                 // that made the stub; none when made outside a transaction
  LinkState state;
  ObjectType type;
  uint16_t reserved;
  uint32_t reserved2;
  Handle handle;          // hint, of the object's brick
};
static_assert(sizeof(Link) == 104);

enum class EntryKind : uint8_t { kObject = 1, kStub = 2 };

// One name's answer: the reply's body of lookup and of everything that creates.
struct EntryBody {
  EntryKind kind;
  ObjectType type;
  uint8_t existed;        // create: the name was there already and has been opened; mkdir: the directory was made before; settle: the marked name went along; directory update: its new parent is here, and not below it
  uint8_t leaving;        // the entry carries a leaving mark of `link.txn`, authority in link.brick
  uint32_t open;          // create: the open's number; 0: none
  ObjectRef object;       // kObject: the object; kStub: its id, handle as known to the stub
  Attr attr;              // kObject only
  Link link;              // kStub, or of the leaving mark; zero otherwise
  DirRecord dir;          // kObject of a directory; zero otherwise
};
static_assert(sizeof(EntryBody) == 480);

// A directory, as the request's sender knows it.
struct DirRef {
  Id id;
  uint64_t change;        // kDirBehind if the brick's is older and 0 is not given; 0: not known
  uint32_t epoch;         // kEpochOld if the brick's is newer
  uint32_t reserved;
};
static_assert(sizeof(DirRef) == 32);

struct Place {            // a name in a directory, on the brick that is its authority
  Id dir;
  Id brick;
};
static_assert(sizeof(Place) == 32);

enum class TxnKind : uint8_t { kRename = 1, kLink = 2, kExchange = 3, kPlace = 4 };
// TxnRecord::flags. An exchange has a record, under the same id, at the authority of either name. Its old and new name
// are the other way round in the follower, and what counts is decided at the other one.
inline constexpr uint16_t kTxnFollower = 1;
enum class TxnState : uint8_t { kPrepared = 1, kCommitted = 2, kAborted = 3 };

// A transaction's record, kept at the new name's authority (FORMAT.md, "Transactions"). The two names, old
// then new, follow as texts.
struct TxnRecord {
  Id txn;
  Id client;              // who drives it
  Place from;             // kRename, kExchange: the old name; zero for kLink and kPlace
  Place to;               // the new name
  Link object;            // what the new name leads to: brick, id, type
  Link replaced;          // what the new name led to before; zero: nothing
  TxnKind kind;
  TxnState state;
  uint16_t flags;
  uint32_t reserved;
  uint64_t started_ms;    // the driver's CLOCK_REALTIME, for people
};
static_assert(sizeof(TxnRecord) == 320);

}  // namespace voldfs::wire

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire structures are little-endian");
