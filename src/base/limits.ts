/** Every buffer, queue, map and wait has its maximum here; each name ends in its unit. */
import { KIB, MIB, TIB } from './units.js';

export const limits = {
  // volumes
  volumeBytesMin: MIB,
  volumeBytesMax: 16 * TIB,
  volumeNameCharsMax: 63,
  bufferBytesMin: 64 * MIB,
  bufferBytesMax: TIB,
  logFileBytesMin: 256 * KIB,
  logFileBytesMax: 64 * MIB,
  logFilesMin: 8,
  recordBytesMax: MIB,
  batchPayloadBytesMax: MIB,
  batchRecordsMax: 1024,
  heldWriteBytesMax: 32 * MIB,
  /** Read, changed and written as one: with both ends in the middle of a block it still is one record of any log. */
  updateBytesMax: 128 * KIB,
  /** What one request to cache reads of what is here already. */
  cachedBytesMax: 32 * MIB,
  overlayBlocksMax: 1024 * 1024,
  overlayExtentsMax: 65536,
  durableAgeMsMax: 1000,
  sumsCacheBytesMax: 64 * MIB,
  healMsMax: 10_000,
  roundZeroRangesMax: 8192,
  /** Taken or deleted, and not in the bucket yet; all of them fit into one segment. */
  snapshotsPendingMax: 1024,
  /** Of one volume; each stands in every checkpoint. */
  snapshotsMax: 10_000,
  /** How long a read of a block that is only in the bucket waits for it. */
  remoteReadMsMax: 25_000,
  /** How long a question whether blocks are zero waits for the map of those that are only in the bucket. */
  statusMapMsMax: 5000,
  readAheadBytesMax: 4 * MIB,
  // frontends
  connectionsMax: 1024,
  connectionsPerVolumeMax: 256,
  handshakeMsMax: 10_000,
  nbdRequestBytesMax: 32 * MIB,
  /** An export's name and a query of the longest strings, and more. */
  nbdOptionBytesMax: 16 * KIB,
  nbdInflightMax: 1024,
  /** Of one connection; each holds the extents of its answer. */
  nbdStatusInflightMax: 2,
  /** Of one context in one answer. */
  nbdStatusExtentsMax: 4096,
  nbdSkippedOptionBytesMax: MIB,
  /** Of one handshake; clients that list all there is ask twice for each export. */
  nbdOptionsMax: 4096,
  /** Replies to options that a peer has not read; a list of all exports is less. */
  nbdOptionReplyBytesMax: MIB,
  nbdSkippedPayloadBytesMax: 64 * MIB,
  nbdReplyBufferBytes: 256 * KIB,
  nbdReplyBuffersFreeMax: 12,
  nbdReplyBytesMax: 64 * MIB,
  nbdReplyBytesPerConnectionMin: 512 * KIB,
  nbdReplyBytesPerConnectionMax: 8 * MIB,
  inflightPayloadBytesPerConnectionMax: 64 * MIB,
  receiveBufferBytes: 256 * KIB,
  /** How long the event loop stays awake for the next request, in microseconds, where requests follow each other as closely. */
  busyPollUs: 100,
  /**
   * What one small request needs, a block written and its header: where more came at once, several are on their way, and those
   * that come while the loop turns are cheaper together.
   */
  singleRequestBytesMax: 4608,
  /** How many arrivals of one connection are answered in a row before the others are looked at. */
  arrivalsAwakeMax: 32,
  /** Nothing arrived for so long, in microseconds: what a peer has under way is there. About two sends of a client. */
  gatherQuietUs: 8,
  /** See Gathering: what a trial takes in at most, which part of it is gathered, and after how many answers the next one is. */
  gatherTrialMax: 32,
  gatherShare: 4,
  gatherTrialEvery: 256,
  /** Of small requests: a payload of this size has nothing to gain. */
  gatheredBytesMax: 64 * KIB,
  lingerMsMax: 2000,
  scsiTransferBytesMax: 32 * MIB,
  /** Data-Out that commands of one unit gather before they begin. */
  scsiGatheredBytesMax: 64 * MIB,
  /** Parameter lists up to this size always find room; the command windows bound how many there are. */
  scsiGatheredBytesFree: 256,
  /** PRE-FETCH commands of a unit that bring blocks at the same time; with IMMED no command window bounds them. */
  scsiPrefetchesMax: 4,
  iscsiDataSegmentBytesMax: 256 * KIB,
  iscsiBurstBytesMax: 16 * MIB,
  iscsiFirstBurstBytesMax: 256 * KIB,
  iscsiOutstandingR2TMax: 8,
  iscsiSendPendingBytesMax: 2 * MIB,
  iscsiSendBuffersFreeMax: 12,
  iscsiImmediateCommandsMax: 16,
  iscsiConnectionsPerSessionMax: 8,
  iscsiLoginRequestsMax: 64,
  iscsiCommandWindow: 128,
  iscsiTextBytesMax: 16 * KIB,
  /** How long commands of a session wait for one that another connection was to bring, before the session ends. */
  iscsiGapMsMax: 20_000,
  /** Task management functions of a connection that wait for something. */
  iscsiTaskManagementMax: 16,
  /** How long task management waits for the commands before it, before it counts them as aborted. */
  iscsiTaskManagementMsMax: 5000,
  /**
   * A peer that is silent that long, at most twice that, is asked for a sign of life, and has that long for it. Programs on
   * libiscsi that sleep answer nothing meanwhile, for a minute and more; who wants the volume has its holder probed anyway.
   */
  iscsiPingIdleMs: 15_000,
  iscsiPingMsMax: 75_000,
  /** Initiators that are asked to log out have that long, in whole seconds. */
  iscsiLogoutMsMax: 3000,
  /** Initiator ports that may be registered on one volume (SCSI persistent reservations). */
  registrationsPerVolumeMax: 512,
  /** TransportIDs that a command may name, and what else a PERSISTENT RESERVE OUT brings. */
  reserveOutBytesMax: 64 * KIB,
  holderProbeMsMax: 5000,
  /** How long a peer is looked at that owes an answer; within holderProbeMsMax. */
  nbdPeerWatchMs: 4000,
  holderEvictMsMax: 15_000,
  // remote
  segmentBytesDefault: 8 * MIB,
  segmentBytesMax: 64 * MIB,
  uploadsInflightMax: 4,
  /** How long after their use the buffers of a replicator that waits keep their memory. */
  idleMemoryMsMax: 10_000,
  receiptEveryMsDefault: 3_600_000,
  storeRequestMsMax: 60_000,
  storeRetryMsMax: 30_000,
  listingKeysMax: 1000,
  /** A reader renews its pin that often; an owner forgets one that it saw unchanged for so long of its running time. */
  pinRenewMs: 3_600_000,
  pinStaleMs: 86_400_000,
  /** How long one that was interrupted tries to take its pin back. */
  pinReleaseMsMax: 3000,
  // process
  shutdownMsMax: 10_000,
  memoryBytesTarget: 256 * MIB,
  apiBodyBytesMax: MIB,
  apiConnectionsMax: 256,
  /** How long a request may take to arrive. */
  apiRequestMsMax: 10_000,
  apiEventStreamsMax: 32,
  /** What a reader of events may be behind before it is cut off. */
  apiEventBytesMax: 4 * MIB,
  eventIntervalMs: 1000,
  /** A stream without news says that it is there that often. */
  eventSilenceMs: 5000,
  /** Of the last hour, per volume. */
  rateIntervalMs: 10_000,
  rateSamplesMax: 360,
} as const;
