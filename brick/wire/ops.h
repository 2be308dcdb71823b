#pragma once

#include "brick/wire/types.h"

// The operations of a brick and the bodies of their requests and replies. A number, once given, is never
// used for anything else. "names:" tells which texts a request carries.
namespace voldfs::wire {

enum class Op : uint16_t {
  // Handshake and session (a control connection carries these and the notifications alone)
  kHello = 1,        // HelloBody -> ChallengeBody
  kAuth = 2,         // AuthBody -> WelcomeBody
  kHeartbeat = 3,    // none -> HeartbeatBody; control connection
  kBye = 4,          // ends the session: opens closed, locks dropped
  kMapGet = 5,       // -> data: the map document
  kMapPut = 6,       // data: a newer map document
  kStatus = 7,       // -> data: JSON for people and monitoring
  kAck = 8,          // AckBody; control connection: a notification has been acted upon
  // Names. DirRef is the parent.
  kLookup = 16,      // NameBody; name -> EntryBody
  kCreate = 17,      // CreateBody; name -> EntryBody with attr, open number
  kMknod = 18,       // MakeBody; name -> EntryBody (fifo, socket, device; regular file)
  kSymlink = 19,     // MakeBody; name, name2 = target -> EntryBody
  kMkdir = 20,       // MkdirBody; name; data = xattr list for a backup or a member -> EntryBody
  kUnlink = 21,      // UnlinkBody; name -> EntryBody of what the name led to, attr after it
  kRmdir = 22,       // RmdirBody; name (kRemoveBegin and kRemoveWhole) -> EntryBody of what went, or, dir.state kRemoving, is to go (kWhole); none
  kRename = 23,      // RenameBody; name, name2: both names on this brick -> RenameReply
  kLink = 24,        // LinkBody; name: a further name of an object of this brick -> EntryBody
  kTmpfile = 25,     // CreateBody; no name -> EntryBody with open number
  kReaddir = 26,     // ReaddirBody -> ReaddirReply; data = DirentHeader, name, padding to 8; repeated
  // Directories
  kDirGet = 32,      // DirBody with ref -> EntryBody of the directory here (attr, record)
  kDirExport = 33,   // DirRef -> EntryBody; name (if it is at its path); data = xattr list: what another brick needs to hold it
  kSetGrow = 34,     // SetGrowBody; at home and at the backup -> EntryBody; name; data = xattr list
  kMaterialize = 35, // MaterializeBody; name; data = xattr list: makes one directory here, parent must be here
  kDirRefresh = 36,  // MaterializeBody; name; data = xattr list: a newer record and attributes for a copy
  kDirUpdate = 37,   // DirUpdateBody; name: home's record of a directory renamed -> EntryBody
  kPark = 38,        // UnlinkBody; name: takes an entry out of the tree, into parked/; a further link of a file that nothing leads to goes
  kDirList = 39,     // DirRef: the id that was told last -> data: ids of directories here, ascending; none: no more
  kDirUnite = 40,    // MaterializeBody; name; data = xattr list: what this brick's part of an adopted directory is to be
  kDirEpoch = 41,    // DirBody: at home: the directory's epoch; kDirBehind if `change` is not home's
  kStubMake = 42,    // StubBody; name: a stub to an object that was there before it -> EntryBody
  // Objects by id and handle, or by open number
  kGetattr = 48,     // ObjectBody -> EntryBody
  kSetattr = 49,     // SetattrBody -> EntryBody
  kReadlink = 50,    // ObjectBody -> data = target
  kOpen = 51,        // OpenBody -> EntryBody with open number
  kRelease = 52,     // OpenRef; data = further open numbers, u32 each -> none
  kRead = 53,        // IoBody -> data
  kWrite = 54,       // IoBody; data -> WriteReply
  kFsync = 55,       // IoBody (flags: 1 = data only); of a directory: DirRef in `object.id`, open 0
  kFallocate = 56,   // FallocateBody -> EntryBody
  kLseek = 57,       // LseekBody -> OffsetReply
  kCopyRange = 58,   // CopyRangeBody -> WriteReply
  kGetxattr = 59,    // XattrBody; name -> data
  kSetxattr = 60,    // XattrBody; name; data -> EntryBody
  kListxattr = 61,   // XattrBody -> data: names, each ended by NUL
  kRemovexattr = 62, // XattrBody; name -> EntryBody
  kStatfs = 63,      // none -> StatfsReply
  kFlagsGet = 64,    // ObjectBody -> OffsetReply: FS_IOC_GETFLAGS
  kFlagsSet = 65,    // SetattrBody (flags in `attr_flags`)
  kGetattrMany = 66, // data: ObjectRefs -> data: EntryBody each, attr.mode 0 where it is not here
  kSettle = 67,      // SettleBody; name, name2: brings a file to the path that its name has (cleanup)
  // Locks
  kLock = 80,        // LockBody -> LockBody: with EAGAIN or flag 2 the conflicting lock (type kUnlock: there is none)
  kLockCancel = 81,  // LockBody: gives up the wait `ticket`; ENOENT: it has ended, kNotifyLock tells how
  kLockWaits = 82,   // LockOwner -> data: LockOwners that this owner waits for here
  kLockDrop = 83,    // LockBody: everything of an owner on the file (flush, release)
  // Transactions, at the new name's authority unless said otherwise
  kTxnPrepare = 96,  // TxnRecord; name, name2
  kTxnCommit = 97,   // TxnRef -> TxnRecord; name, name2
  kTxnAbort = 98,    // TxnRef -> TxnRecord; name, name2
  kTxnStatus = 99,   // TxnRef -> TxnRecord; name, name2
  kTxnFinish = 100,  // TxnRef: everything is cleaned up, the record goes
  kTxnMark = 101,    // MarkBody; name; at the old name's authority: the name is leaving
  kTxnUnmark = 102,  // MarkBody; name; after an abort
  kTxnLeave = 103,   // MarkBody; name; after a commit: the old name's entry goes
  kTxnList = 104,    // -> data: TxnRecord, u16 sizes of the names, u32 0, the names, zeros to 8; repeated
  kVolumeLock = 105, // VolumeLockBody; at the root's home: serializes renames of directories between parents
  // Sent by a brick on a control connection, answered by kAck
  kNotifyRecall = 128,  // RecallBody
  kNotifyLock = 129,    // LockBody: a wait has ended; flags 0: the lock is held now, otherwise an errno (EDEADLK)
  kNotifyMap = 130,     // none: the map is newer
};

inline constexpr uint64_t kFeatureDescriptors = 1;  // the descriptor of an opened file comes along; the unix socket alone

struct HelloBody {
  Id volume;
  Id client;                // random, of the mount's life
  uint8_t nonce[16];        // the client's
  uint64_t features;        // kFeature*, that the client knows
  uint64_t session;         // to come back to; 0: a new one
  uint16_t version_min, version_max;
  uint8_t kind;             // 1 request connection, 2 control connection, 3 asks for the map or status alone
  uint8_t reserved[3];
};
static_assert(sizeof(HelloBody) == 72);
struct ChallengeBody {
  Id brick;
  uint8_t nonce[16];        // the brick's
  uint8_t proof[32];        // HMAC-SHA256(secret, "voldfs brick 1" NUL client nonce, brick nonce, volume, client, brick)
  uint64_t features;        // that both know, and this connection has
  uint16_t version;
  uint16_t reserved[3];
};
static_assert(sizeof(ChallengeBody) == 80);
struct AuthBody { uint8_t proof[32]; };  // HMAC-SHA256(secret, "voldfs client 1" NUL, the same)
struct WelcomeBody {
  uint64_t session;
  uint64_t incarnation;     // of the brick process: differs after a restart
  uint32_t lease_ms;        // how long the session lives without a heartbeat
  uint16_t slots;           // granted, at most kSlotsMax
  uint16_t ordinal;         // the brick's
  uint8_t resumed;          // 1: the session was known
  uint8_t grace;            // 1: reclaim opens and locks now
  uint16_t reserved[3];
};
static_assert(sizeof(WelcomeBody) == 32);
struct HeartbeatBody { uint32_t lease_ms; uint32_t reserved; };
struct AckBody { uint64_t sequence; };     // of the notification

struct NameBody { DirRef dir; };
struct CreateBody {
  DirRef dir;
  Id id;                    // chosen by the client
  uint32_t mode;            // S_IFREG or 0, and permissions before the umask
  uint32_t flags;           // O_* of open(2), x86-64 values
};
static_assert(sizeof(CreateBody) == 56);
struct MakeBody {
  DirRef dir;
  Id id;
  uint32_t mode;            // with its type
  uint32_t reserved;
  uint64_t rdev;
};
static_assert(sizeof(MakeBody) == 64);
struct MkdirBody {
  DirRef dir;               // the parent
  uint32_t mode;
  uint32_t reserved;
  DirRecord record;         // of the new directory; record.role says what this brick is to be
};
static_assert(sizeof(MkdirBody) == 248);
struct UnlinkBody {
  DirRef dir;
  Id expected;              // none: whatever the name leads to. kOtherId if it is another
  uint32_t flags;           // kUnlink: 1: also a link stub (otherwise kStub); 2: an off-hash name, after its stub has gone. kPark: 1: it is led to
  uint32_t reserved;
  Id txn;                   // kUnlink: of the transaction behind which this cleans up: done once for it (kTxnUnknown); none: of none
};
static_assert(sizeof(UnlinkBody) == 72);
enum class RemovePhase : uint32_t { kWhole = 1, kBegin = 2, kMember = 3, kCommit = 4, kCancel = 5 };
struct RmdirBody {
  DirRef dir;               // the parent; zero in kMember
  Id id;                    // of the directory that goes; none in kWhole: whichever the name leads to
  Id txn;
  RemovePhase phase;        // kWhole: kBegin where others hold it too. kCancel at a member: its tombstone goes
  uint32_t reserved;
};
static_assert(sizeof(RmdirBody) == 72);
struct RenameBody {
  DirRef from, to;
  Id expected;              // what the old name leads to; none: whatever
  Id expected_target;       // what the new name leads to; none: whatever but a stub (kStub); of directories see store/names_rename.h
  uint32_t flags;           // RENAME_NOREPLACE 1, RENAME_EXCHANGE 2
  uint32_t reserved;
};
static_assert(sizeof(RenameBody) == 104);
struct RenameReply { EntryBody moved; EntryBody replaced; };  // replaced.kind 0: nothing was
static_assert(sizeof(RenameReply) == 960);
struct LinkBody {
  DirRef dir;               // of the new name
  ObjectRef object;
  uint32_t flags;           // 1: an off-hash name: a stub elsewhere leads to it
  uint32_t reserved;
  Id txn;                   // that this is a step of: kTxnDecided once its cleanup has been here; none: of none
};
static_assert(sizeof(LinkBody) == 120);
struct ReaddirBody {
  DirRef dir;
  uint64_t position;        // 0: from the start; otherwise a position of an earlier page, 53 bits
  uint32_t size_max;        // of the reply's data
  uint32_t flags;           // 1: with attributes and handles; 2: nobody's readdir(3): the access time stays
};
static_assert(sizeof(ReaddirBody) == 48);
struct ReaddirReply {
  uint64_t position;        // to go on from
  uint32_t count;
  uint8_t end;              // 1: no more entries here
  uint8_t reserved[3];
};
static_assert(sizeof(ReaddirReply) == 16);
struct DirentHeader {       // then EntryBody's attr and handle if size says so, then the name, then zeros to 8
  uint64_t position;        // just behind this entry
  uint16_t size;            // of the whole record, a multiple of 8
  uint16_t name_size;
  EntryKind kind;
  ObjectType type;
  uint8_t with_attr;        // 1: an Attr and a Handle follow this header
  uint8_t leaving;          // ask kLookup before listing it
  Id id;                    // of the object, also behind a stub; none: an entry without an id (adopted)
};
static_assert(sizeof(DirentHeader) == 32);

struct DirBody { DirRef dir; };
struct StubBody {
  DirRef dir;
  Link link;                // state kCommitted, no transaction
};
static_assert(sizeof(StubBody) == 136);
struct SetGrowBody {
  Id id;                    // of the directory
  uint16_t ordinal;         // the brick that is to hold it
  uint16_t reserved;
  uint32_t reserved2;
  uint64_t change;          // at a backup: home's counter after the growth; 0 at home
};
static_assert(sizeof(SetGrowBody) == 32);
struct MaterializeBody {
  DirRecord record;         // role: kRoleMember or kRoleSkeleton (kRoleBackup may be added); kDirUnite: kRoleHome too
  Attr attr;                // mode, owner, times to take over
};
static_assert(sizeof(MaterializeBody) == 304);
struct DirUpdateBody {
  Id id;
  Id parent;                // the new one
  Id txn;                   // of the rename
  uint64_t change;          // 0 at home, which counts; at others: home's counter after it
};
static_assert(sizeof(DirUpdateBody) == 56);

struct ObjectBody {
  ObjectRef object;
  uint32_t open;            // if not 0: through this open
  uint32_t reserved;
};
static_assert(sizeof(ObjectBody) == 72);
inline constexpr uint32_t kSetMode = 1, kSetUid = 2, kSetGid = 4, kSetSize = 8, kSetAtime = 16, kSetMtime = 32,
                          kSetAtimeNow = 64, kSetMtimeNow = 128, kSetCtime = 256, kKillPrivileges = 512;
struct SetattrBody {
  ObjectRef object;
  uint32_t open;
  uint32_t valid;           // kSet*
  Attr attr;                // the fields that `valid` names
  uint64_t change;          // of a directory's member: home's counter after it; 0 at home and for files
  uint32_t attr_flags;      // kFlagsSet
  uint32_t reserved;
};
static_assert(sizeof(SetattrBody) == 184);
struct OpenBody {
  ObjectRef object;
  uint32_t flags;           // O_*; kKillPrivileges semantics follow from the caller's uid
  uint32_t open;            // kFlagReclaim: the number that it had; otherwise 0
};
static_assert(sizeof(OpenBody) == 72);
struct OpenRef { uint32_t open; uint32_t reserved; uint64_t lock_owner; };
static_assert(sizeof(OpenRef) == 16);
struct IoBody {
  ObjectRef object;         // checked when open is 0, hint otherwise
  uint32_t open;
  uint32_t flags;           // kWrite: 1 append, 2 O_DSYNC, 4 O_SYNC, 8 takes suid and sgid away; kFsync: 1 data only
  uint64_t offset;
  uint32_t size;            // kRead: at most kDataMax; kWrite: the data's
  uint32_t reserved;
};
static_assert(sizeof(IoBody) == 88);
struct WriteReply {
  uint64_t offset;          // where it went (append), or the file's end
  uint32_t size;            // written
  uint32_t reserved;
  Attr attr;                // after it
};
static_assert(sizeof(WriteReply) == 112);
struct FallocateBody { ObjectRef object; uint32_t open; uint32_t mode; uint64_t offset, length; };
static_assert(sizeof(FallocateBody) == 88);
struct LseekBody { ObjectRef object; uint32_t open; uint32_t whence; uint64_t offset; };
static_assert(sizeof(LseekBody) == 80);
struct OffsetReply { uint64_t offset; };
struct CopyRangeBody {
  ObjectRef from, to;
  uint32_t open_from, open_to;
  uint64_t offset_from, offset_to, size;
  uint64_t flags;
};
static_assert(sizeof(CopyRangeBody) == 168);
struct XattrBody {
  ObjectRef object;         // a directory: id alone
  uint32_t open;
  uint32_t flags;           // XATTR_CREATE 1, XATTR_REPLACE 2; 0x100: clear S_ISGID (FUSE_SETXATTR_ACL_KILL_SGID)
  uint32_t size_max;        // of the value wanted; 0: its size alone, in OffsetReply
  uint32_t reserved;
  uint64_t change;          // of a directory's member; 0 at home and for files
};
static_assert(sizeof(XattrBody) == 88);
struct StatfsReply {
  Id file_system;           // bricks on one file system say the same
  uint64_t blocks, blocks_free, blocks_available, files, files_free;
  uint32_t block_size, name_max;
  uint64_t reserve_blocks;  // that min-free keeps back
};
static_assert(sizeof(StatfsReply) == 72);
struct SettleBody {
  ObjectRef object;
  Id from_dir;              // where the file lies; none: wherever its handle leads
  Id to_dir;                // where it is to lie; must be here
  Id replaced;              // what may be replaced there; none: nothing
  Id txn;
};
static_assert(sizeof(SettleBody) == 128);

// An owner of locks: a client's session is known from the request, others are named by their client id.
struct LockOwner { Id client; uint64_t owner; };
static_assert(sizeof(LockOwner) == 24);
enum class LockKind : uint16_t { kPosix = 1, kFlock = 2, kOpenFile = 3 };
enum class LockType : uint16_t { kRead = 0, kWrite = 1, kUnlock = 2 };  // F_RDLCK, F_WRLCK, F_UNLCK
struct LockBody {
  ObjectRef object;
  LockOwner owner;
  uint64_t start, end;      // bytes, both inside; end of all files: 2^63 - 1
  uint64_t ticket;          // chosen by the client, names a wait
  LockKind kind;
  LockType type;
  uint32_t pid;
  uint32_t open;
  uint32_t flags;           // 1: wait; 2: F_GETLK alone; 4: kLockCancel, also what is held
};
static_assert(sizeof(LockBody) == 128);

struct TxnRef {
  Id txn;
  TxnState state;           // kTxnCommit and kTxnAbort: what is wanted
  uint8_t reserved[7];
};
static_assert(sizeof(TxnRef) == 24);
struct MarkBody {
  DirRef dir;
  Id txn;
  Id authority;             // brick that decides
  Id expected;              // object that the name leads to
};
static_assert(sizeof(MarkBody) == 80);
struct VolumeLockBody { uint32_t acquire; uint32_t reserved; Id txn; };
static_assert(sizeof(VolumeLockBody) == 24);

inline constexpr uint32_t kRecallAttr = 1, kRecallData = 2, kRecallEntry = 4, kRecallEntries = 8;
struct RecallBody {
  Id object;                // a directory or a file
  uint64_t object_sequence; // the highest that was granted
  uint32_t what;            // kRecall*: attributes (and by them data), data, the entry `name`, all entries
  uint32_t reserved;
};                          // name: the entry's
static_assert(sizeof(RecallBody) == 32);

}  // namespace voldfs::wire
