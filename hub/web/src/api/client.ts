// The one way in which the page talks to the hub. Every failure becomes an ApiError that says what
// happened and, where the hub knows it, what to do next.
import createClient from 'openapi-fetch';
import type { paths } from './schema';

export class ApiError extends Error {
  override readonly name = 'ApiError';
  constructor(
    /** HTTP status; 0 when no answer came. */
    readonly status: number,
    /** Stable code of the hub, such as AUTH_001; empty when there is none. */
    readonly code: string,
    message: string,
    readonly help: string,
    readonly requestId: string,
    /** Seconds after which the hub allows another attempt. */
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

const text = (v: unknown) => (typeof v === 'string' ? v : '');

/** Makes an ApiError of a refusal, which is problem+json from the hub and anything at all from a proxy. */
export function problem(response: Response, body: unknown): ApiError {
  const p = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const wait = Number(response.headers.get('Retry-After') ?? Number.NaN);
  return new ApiError(
    response.status,
    text(p.code),
    text(p.detail) || text(p.title) || `HTTP ${response.status}`,
    text(p.help),
    text(p.request_id) || (response.headers.get('X-Request-Id') ?? ''),
    Number.isFinite(wait) ? wait : undefined,
  );
}

export const http = createClient<paths>({ credentials: 'same-origin' });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** Waits for a call and gives its data, or throws an ApiError. */
export async function call<T>(pending: Promise<Answer<T>>): Promise<T> {
  let answer: Answer<T>;
  try {
    answer = await pending;
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new ApiError(0, '', cause instanceof Error ? cause.message : String(cause), '', '');
  }
  if (!answer.response.ok) throw problem(answer.response, answer.error);
  return answer.data as T;
}
