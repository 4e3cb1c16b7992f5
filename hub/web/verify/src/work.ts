// The check in a worker, so that the page answers while a month's hundreds of megabytes are read, and so that it can be given up.
import { chainOf } from './chain';
import { check, type Report } from './check';

/** What is to be checked, and what the reader brings. */
export interface Job {
  readonly file: File;
  readonly contract: Uint8Array | undefined;
  readonly endpoints: readonly string[];
}

type Said = { readonly part: number } | { readonly report: Report } | { readonly failed: string };

/** What this needs of a worker's own scope. */
interface Scope {
  onmessage: ((e: MessageEvent<Job>) => void) | null;
  postMessage(s: Said): void;
}

const text = (err: unknown): string => (err instanceof Error ? err.message : String(err));

const run = (j: Job, progress: (part: number) => void): Promise<Report> =>
  check(j.file, { contract: j.contract, chain: j.endpoints.length > 0 ? chainOf(j.endpoints) : undefined }, progress);

/** The worker's side: one job, then its end. */
export function serve(): void {
  const scope = globalThis as unknown as Scope;
  scope.onmessage = ({ data }) => {
    run(data, (part) => scope.postMessage({ part })).then(
      (report) => scope.postMessage({ report }),
      (err: unknown) => scope.postMessage({ failed: text(err) }),
    );
  };
}

/**
 * The page's side: checks in a worker that runs code, the text of the page's own script. Where there is none, as with the development server, or the browser
 * lets a document of this kind start none, the page itself does the work, and answers only between pieces of the file. It throws where the file could not be
 * read, and the signal's reason when that is raised.
 */
export async function checkAway(code: string | undefined, job: Job, progress: (part: number) => void, stop: AbortSignal): Promise<Report> {
  const here = () =>
    run(job, (part) => {
      stop.throwIfAborted();
      progress(part);
    });
  if (code === undefined) return here();
  const address = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
  let worker: Worker | undefined;
  try {
    try {
      worker = new Worker(address);
    } catch {
      return await here(); // some browsers say at once that they start none
    }
    return (await inWorker(worker, job, progress, stop)) ?? (await here());
  } finally {
    worker?.terminate();
    URL.revokeObjectURL(address);
  }
}

/** The worker's report; undefined where it did not start. */
function inWorker(worker: Worker, job: Job, progress: (part: number) => void, stop: AbortSignal): Promise<Report | undefined> {
  return new Promise((resolve, reject) => {
    let heard = false;
    worker.onmessage = ({ data }: MessageEvent<Said>) => {
      heard = true;
      if ('part' in data) progress(data.part);
      else if ('report' in data) resolve(data.report);
      else reject(new Error(data.failed));
    };
    worker.onerror = (e) => {
      e.preventDefault();
      if (heard) reject(new Error(e.message));
      else resolve(undefined);
    };
    stop.addEventListener('abort', () => reject(stop.reason as Error));
    worker.postMessage(job);
  });
}
